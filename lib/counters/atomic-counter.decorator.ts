import * as check from '../atomic-redis.validation.js';
import { wrapMethod, type CheckedMethodDecorator } from '../method-wrapping/wrap-method.js';
import { callReplacement, isReplaced } from '../method-wrapping/replaced-service.js';
import { counterValueOf } from './counter-value.decorator.js';
import { checkTogether, runOptionChecks, type CounterRunOptions } from './counter-arguments.js';
import { CounterLimitError } from './counter.errors.js';
import type { CounterResult } from './counter-result.js';
import { CounterService } from './counter.service.js';

/** Options of `@AtomicCounter`. */
export interface AtomicCounterOptions<
  KeyArgs extends unknown[] = [],
  ByArgs extends unknown[] = [],
> extends CounterRunOptions {
  /** The counter's key, or a callback that makes it from the method's arguments. */
  key: string | ((...args: KeyArgs) => string);
  /**
   * Amount to add: an integer, negative to count down, or a callback that takes the method's
   * arguments.
   * @default 1
   */
  by?: number | bigint | ((...args: ByArgs) => number | bigint);
  /** The registration to use. Default: the unnamed one. */
  name?: string;
}

const checkAtomicCounterOptions = check.options({
  ...runOptionChecks,
  key: check.either('a key or a function', check.key, check.func),
  by: check.either('a safe integer, a bigint of 64 bits or a function', check.int64, check.func),
  name: check.nonEmptyString,
} satisfies Record<keyof AtomicCounterOptions, check.Check>);

/**
 * Counts, then runs the method, by `CounterService.run`; when the method fails, what was counted is
 * taken back exactly, unless `onError` is `'keep'`. At a bound, with `onLimit: 'skip'`, the method
 * does not run. The method then returns a promise.
 *
 * ```ts
 * @AtomicCounter({ key: (sku: string) => `inventory:{${sku}}`, by: (_sku: string, dto: ReserveDto) => -dto.quantity, min: 0 })
 * async reserve(sku: string, dto: ReserveDto) { … }
 * ```
 *
 * The method gets the new value by a parameter with `@CounterValue()`.
 *
 * @throws InvalidArgumentError at once for a wrong option; a call throws what `CounterService.run`
 * does
 */
export function AtomicCounter<KeyArgs extends unknown[] = [], ByArgs extends unknown[] = []>(
  options: AtomicCounterOptions<KeyArgs, ByArgs>,
): CheckedMethodDecorator<KeyArgs, ByArgs> {
  checkAtomicCounterOptions('@AtomicCounter', options);
  checkTogether('@AtomicCounter', options);
  const { key, by = 1, name, ...runOptions } = options;
  if (key === undefined) check.func('@AtomicCounter.key', key);
  return (target, methodKey, descriptor) => {
    const giveCount = counterValueOf(target, methodKey);
    const amountOf = (args: unknown[]): number | bigint =>
      typeof by === 'function' ? by(...(args as ByArgs)) : by;
    wrapMethod(
      {
        decorator: 'AtomicCounter',
        name,
        forStandIn: { amountOf, giveCount },
        around: async ({ counters }, call) => {
          const { args } = call;
          const amount = amountOf(args);
          const counter = typeof key === 'function' ? key(...(args as KeyArgs)) : key;
          const work = (count: CounterResult): unknown => {
            giveCount(args, count);
            return call.proceed();
          };
          if (isReplaced(counters, CounterService))
            return await countByReplacement(counters, counter, amount, work, runOptions);
          return await counters.run(counter, amount, work, runOptions);
        },
      },
      target,
      methodKey,
      descriptor,
    );
  };
}

/** As `CounterService.run`, by what a test has put in its place: its `run`, or only its `add`. */
async function countByReplacement(
  service: object,
  key: string,
  amount: number | bigint,
  work: (count: CounterResult) => unknown,
  options: CounterRunOptions,
): Promise<unknown> {
  const replaced = { service, name: 'CounterService', decorator: 'AtomicCounter' };
  if ('run' in service) return await callReplacement(replaced, 'run', key, amount, work, options);
  const count = (await callReplacement(replaced, 'add', key, amount, options)) as CounterResult;
  if (count.limited && options.onLimit !== 'clamp') {
    const bound = BigInt(amount) < 0n ? options.min : options.max;
    throw new CounterLimitError(key, count.value, amount, bound ?? count.value);
  }
  return await work(count);
}
