import { ConfigurationError } from '../atomic-redis.errors.js';
import type { MethodSite } from './wrap-method.js';

/**
 * The decorators that wrap a method, outermost first. A claim or a count inside a retried body would repeat, so no other
 * order is accepted.
 */
const ORDER = ['Idempotent', 'AtomicCounter', 'OptimisticRetry'] as const;

export type AtomicDecorator = (typeof ORDER)[number];

const APPLIED = Symbol('nestjs-atomic-redis:applied-decorators');

/**
 * Notes a decorator on the method and refuses one that belongs further in than what is there already. Decorators are applied
 * from the bottom up; the note travels with the metadata that wrappers copy.
 */
export function assertDecoratorOrder({ decorator, className, methodName }: MethodSite, method: object): void {
  const below = (Reflect.getMetadata(APPLIED, method) as AtomicDecorator[] | undefined) ?? [];
  for (const inner of below) {
    if (ORDER.indexOf(inner) < ORDER.indexOf(decorator)) {
      throw new ConfigurationError(
        `${className}.${methodName}: @${inner}() must stand above @${decorator}(). ` +
          `The order, outermost first, is ${ORDER.map((one) => `@${one}()`).join(', ')}.`,
      );
    }
    if (inner === decorator && decorator !== 'AtomicCounter') {
      throw new ConfigurationError(`${className}.${methodName} has @${decorator}() twice`);
    }
  }
  Reflect.defineMetadata(APPLIED, [...below, decorator], method);
}
