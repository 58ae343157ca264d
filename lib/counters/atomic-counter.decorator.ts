import * as check from '../atomic-redis.validation.js';
import { wrapMethod, type CheckedMethodDecorator } from '../method-wrapping/wrap-method.js';
import { counterValueOf } from './counter-value.decorator.js';
import { checkTogether, runOptionChecks, type CounterRunOptions } from './counter-arguments.js';
import type { CounterResult } from './counter-result.js';

export interface AtomicCounterOptions<
  KeyArgs extends unknown[] = [],
  ByArgs extends unknown[] = [],
> extends CounterRunOptions {
  /** The counter's key, or a callback that makes it from the method's arguments. */
  key: string | ((...args: KeyArgs) => string);
  /** What to add: an integer, negative to count down, or a callback that takes the method's arguments. @default 1 */
  by?: number | bigint | ((...args: ByArgs) => number | bigint);
  /** The registration to use. Default: the unnamed one. */
  name?: string;
}

const checkOptions = check.options({
  ...runOptionChecks,
  key: check.either('a key or a function', check.key, check.func),
  by: check.either('a safe integer, a bigint of 64 bits or a function', check.int64, check.func),
  name: check.nonEmptyString,
} satisfies Record<keyof AtomicCounterOptions, check.Check>);

/**
 * Counts, then runs the method, by `CounterService.run`; when the method fails, what was counted is taken back exactly, unless
 * `onError` is `'keep'`. At a bound, with `onLimit: 'reject'`, the method does not run. The method then returns a promise.
 *
 * ```ts
 * @AtomicCounter({ key: (sku: string) => `inventory:{${sku}}`, by: (_sku: string, dto: ReserveDto) => -dto.quantity, min: 0 })
 * async reserve(sku: string, dto: ReserveDto) { … }
 * ```
 *
 * The method gets the new value by a parameter with `@CounterValue()`.
 *
 * @throws InvalidArgumentError at once for a wrong option; a call throws what `CounterService.run` does
 */
export function AtomicCounter<KeyArgs extends unknown[] = [], ByArgs extends unknown[] = []>(
  options: AtomicCounterOptions<KeyArgs, ByArgs>,
): CheckedMethodDecorator<KeyArgs, ByArgs> {
  checkOptions('@AtomicCounter', options);
  checkTogether('@AtomicCounter', options);
  const { key, by = 1, name, ...runOptions } = options;
  if (key === undefined) check.func('@AtomicCounter.key', key);
  return (target, methodKey, descriptor) => {
    const giveValue = counterValueOf(target, methodKey);
    wrapMethod(
      {
        decorator: 'AtomicCounter',
        name,
        around: async ({ counters }, call) => {
          const { args } = call;
          const amount = typeof by === 'function' ? by(...(args as ByArgs)) : by;
          const counter = typeof key === 'function' ? key(...(args as KeyArgs)) : key;
          const work = (count: CounterResult): unknown => {
            giveValue(args, count);
            return call.proceed();
          };
          return await counters.run(counter, amount, work, runOptions);
        },
      },
      target,
      methodKey,
      descriptor,
    );
  };
}
