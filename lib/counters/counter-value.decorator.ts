import 'reflect-metadata';
import { ConfigurationError } from '../atomic-redis.errors.js';
import type { CounterResult } from './counter-result.js';

/**
 * Belongs on a method that has a parameter for a count; with parameters of other types only, it
 * does not compile.
 */
type CounterValueDecorator = <T extends object, Key extends string | symbol | undefined>(
  target: T,
  methodKey: Key & TakesCount<T, Key>,
  index: number,
) => void;

type TakesCount<T, Key> = Key extends keyof T
  ? T[Key] extends (...args: infer Args) => unknown
    ? CounterResult<number> extends Args[number]
      ? unknown
      : CounterResult<bigint> extends Args[number]
        ? unknown
        : { '@CounterValue() gives a CounterResult': CounterResult }
    : unknown
  : unknown;

const PARAMETERS = Symbol('nestjs-atomic-redis:counter-value-parameters');

/**
 * Gives an `@AtomicCounter()` method the `CounterResult` of its count: the new value, what was
 * applied, and whether a bound limited it. Callers leave the parameter out, so it is optional and
 * comes last. Of several counters on one method, it is that of the lowest decorator.
 *
 * ```ts
 * @AtomicCounter({ key: (sku: string) => `inventory:{${sku}}`, by: -1, min: 0 })
 * async take(sku: string, @CounterValue() count?: CounterResult<number>) {
 *   if (count!.value < 10) await this.reorder(sku);
 * }
 * ```
 */
export const CounterValue = (): CounterValueDecorator => (target, methodKey, index) => {
  if (methodKey === undefined || typeof target === 'function') {
    throw new ConfigurationError(
      '@CounterValue() goes on a parameter of an @AtomicCounter() method of a class',
    );
  }
  const indexes = parametersOf(target, methodKey);
  Reflect.defineMetadata(PARAMETERS, [...indexes, index], target, methodKey);
};

const parametersOf = (target: object, methodKey: string | symbol): readonly number[] =>
  (Reflect.getOwnMetadata(PARAMETERS, target, methodKey) as number[] | undefined) ?? [];

/**
 * Decorators of parameters are applied before those of their method, so the latter know where the
 * value goes.
 */
export function counterValueOf(
  target: object,
  methodKey: string | symbol,
): (args: unknown[], count: CounterResult) => void {
  const indexes = parametersOf(target, methodKey);
  return (args, { value, applied, limited }) => {
    for (const index of indexes) args[index] = { value, applied, limited } satisfies CounterResult;
  };
}
