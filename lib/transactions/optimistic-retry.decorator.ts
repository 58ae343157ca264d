import * as check from '../atomic-redis.validation.js';
import type { CompletableJob } from '../scripting/completable-job.js';
import { wrapMethod, type CheckedMethodDecorator } from '../method-wrapping/wrap-method.js';
import { markOptimistic } from './optimistic-methods.js';
import { commonOptionChecks, type TransactionOptions } from './transaction.options.js';

/** Options of `@OptimisticRetry`. */
export interface OptimisticRetryOptions<Args extends unknown[], Result = unknown> extends Omit<
  TransactionOptions<Result>,
  'signal' | 'onReplies' | 'completesJob' | 'permit'
> {
  /**
   * The keys that the method reads and that must not change until its writes are applied; a
   * callback takes the method's arguments.
   */
  watch: string | readonly string[] | ((...args: Args) => string | readonly string[]);
  /**
   * Returns the job that the transaction acknowledges by its own EXEC, as
   * `TransactionOptions.completesJob` has it; takes the method's arguments. For a consumer: `(job)
   * => job`.
   */
  completesJob?: (...args: Args) => CompletableJob;
  /**
   * Applies the writes only while the permit of `@WithPermit()` above, or around the call, is held.
   */
  permit?: 'current';
  /** The registration to use. Default: the unnamed one. */
  name?: string;
}

const checkRetryOptions = check.options({
  watch: check.either('a key, a non-empty array of keys or a function', check.key, arrayOfKeys, check.func),
  name: check.nonEmptyString,
  ...commonOptionChecks,
  completesJob: check.func,
  permit: check.oneOf('current'),
} satisfies Record<keyof OptimisticRetryOptions<unknown[]>, check.Check>);

/**
 * Runs the method as an optimistic transaction, by `TransactionService.run`. Its reads and writes
 * through the injected `Transaction` take effect as one step. It runs again from the start if a
 * watched key was changed meanwhile, and so do its effects outside Redis. The method then returns a
 * promise.
 *
 * ```ts
 * @OptimisticRetry({ watch: (id: string) => `account:{${id}}:balance` })
 * async withdraw(id: string, amount: number) { … this.tx.read.get(…) … this.tx.write.set(…) }
 * ```
 *
 * @throws InvalidArgumentError at once for a wrong option; a call throws the errors of
 * `TransactionService.run`
 */
export function OptimisticRetry<Args extends unknown[], Result = unknown>(
  options: OptimisticRetryOptions<Args, Result>,
): CheckedMethodDecorator<Args, [], object, PromiseLike<Result>> {
  checkRetryOptions('@OptimisticRetry', options);
  const { watch, name, completesJob, ...transactionOptions } = options;
  if (watch === undefined) check.func('@OptimisticRetry.watch', watch);
  return (target, key, descriptor) => {
    wrapMethod(
      {
        decorator: 'OptimisticRetry',
        name,
        forStandIn: {
          maxAttempts: transactionOptions.maxAttempts,
          jobOf: completesJob && ((args) => completesJob(...(args as Args))),
        },
        around: async ({ transactions }, call) => {
          const keys = typeof watch === 'function' ? watch(...(call.args as Args)) : watch;
          return await transactions.run(
            typeof keys === 'string' ? [keys] : keys,
            () => call.proceed(),
            completesJob
              ? { ...transactionOptions, completesJob: completesJob(...(call.args as Args)) }
              : transactionOptions,
          );
        },
      },
      target,
      key,
      descriptor,
    );
    markOptimistic(descriptor.value as object, name);
  };
}

function arrayOfKeys(path: string, value: unknown): void {
  check.instanceOf(Array)(path, value);
  check.integer(1)(`${path}.length`, (value as unknown[]).length);
  for (const [i, key] of (value as unknown[]).entries()) check.key(`${path}[${i}]`, key);
}
