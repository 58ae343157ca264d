import * as check from '../atomic-redis.validation.js';
import { wrapMethod, type CheckedMethodDecorator } from '../method-wrapping/wrap-method.js';
import { acquireOptionChecks, type AcquireOptions } from './permit.options.js';

/** Options of `@WithPermit`. */
export interface WithPermitOptions<Args extends unknown[] = []> extends Pick<
  AcquireOptions,
  'limit' | 'leaseMs' | 'waitMs' | 'timeoutMs'
> {
  /** The permit's name, or a callback that makes it from the method's arguments. */
  name: string | ((...args: Args) => string);
  /** The registration to use. Default: the unnamed one. */
  registration?: string;
}

const { limit, leaseMs, waitMs, timeoutMs } = acquireOptionChecks;

const checkOptions = check.options({
  name: check.either('a name or a function', check.key, check.func),
  limit,
  leaseMs,
  waitMs,
  timeoutMs,
  registration: check.nonEmptyString,
} satisfies Record<keyof WithPermitOptions, check.Check>);

/**
 * Runs the method while a permit is held, by `PermitService.withPermit`: one call at a time in all
 * processes, or as many as `limit` says. Transactions and scripted calls inside enforce it by
 * `permit: 'current'`. The method then returns a promise.
 *
 * ```ts
 * @WithPermit({ name: (id: string) => `report:{${id}}`, waitMs: 2_000 })
 * async build(id: string) { … }
 * ```
 *
 * @throws InvalidArgumentError at once for a wrong option; a call throws what
 * `PermitService.withPermit` does
 */
export function WithPermit<Args extends unknown[] = []>(
  options: WithPermitOptions<Args>,
): CheckedMethodDecorator<Args> {
  checkOptions('@WithPermit', options);
  const { name, registration, ...acquireOptions } = options;
  if (name === undefined) check.func('@WithPermit.name', name);
  return (target, key, descriptor) =>
    wrapMethod(
      {
        decorator: 'WithPermit',
        name: registration,
        around: async ({ permits }, call) =>
          await permits.withPermit(
            typeof name === 'function' ? name(...(call.args as Args)) : name,
            () => call.proceed(),
            acquireOptions,
          ),
      },
      target,
      key,
      descriptor,
    );
}
