import { ConfigurationError } from '../atomic-redis.errors.js';
import type { AtomicDecorator, MethodSite } from './method-site.js';

/**
 * The decorators that wrap a method, outermost first. A claim or a count inside a retried body
 * would repeat, so no other order is accepted.
 */
const ORDER: readonly AtomicDecorator[] = ['Idempotent', 'WithPermit', 'AtomicCounter', 'OptimisticRetry'];

// Shared by every copy of this package, so that a second copy is found at boot.
const APPLIED = Symbol.for('nestjs-atomic-redis:applied-decorators');

/** Identifies this copy of the package among others in the process. */
export const THIS_COPY = Symbol('nestjs-atomic-redis');

/** The note that a decorator leaves on its method. */
export interface AppliedDecorator {
  readonly decorator: AtomicDecorator;
  /** The property that Nest injects the registration into. */
  readonly token: symbol;
  readonly copy: symbol;
}

/**
 * Notes a decorator on the method. Refuses one that belongs further in than those that are noted
 * already. Decorators are applied from the bottom up; the note travels with the metadata that
 * wrappers copy.
 */
export function noteDecorator(
  { decorator, className, methodName }: MethodSite,
  method: object,
  token: symbol,
): void {
  const below = appliedTo(method);
  for (const { decorator: inner } of below) {
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
  Reflect.defineMetadata(APPLIED, [...below, { decorator, token, copy: THIS_COPY }], method);
}

/** The decorators on a method, innermost first. */
export const appliedTo = (method: object): readonly AppliedDecorator[] =>
  (Reflect.getMetadata(APPLIED, method) as AppliedDecorator[] | undefined) ?? [];
