import { MetadataScanner, type ModulesContainer } from '@nestjs/core';
import { ConfigurationError, RedisUnavailableError } from './atomic-redis.errors.js';
import { appliedTo, THIS_COPY } from './method-wrapping/decorator-order.js';

/** On the module's class. Every copy of this package has the same. */
export const COPY = Symbol.for('nestjs-atomic-redis:copy');

/**
 * Looks for mistakes of how the application is put together that would show only when a decorated
 * method is called.
 *
 * @throws ConfigurationError for two copies of this package, and for a decorated class that
 * `useFactory` or `useValue` makes
 */
export function checkWiring(modules: ModulesContainer): void {
  for (const { metatype, providers, controllers } of modules.values()) {
    const copy = (metatype as unknown as Record<symbol, unknown>)[COPY];
    if (copy !== undefined && copy !== THIS_COPY) throw twoCopies('AtomicRedisModule is imported from both');
    for (const wrapper of [...providers.values(), ...controllers.values()]) {
      if (wrapper.isAlias) continue;
      const instance = wrapper.instance as Record<symbol, unknown> | null | undefined;
      const prototype = prototypeOf(wrapper.isNotMetatype ? instance?.constructor : wrapper.metatype);
      for (const [methodName, method] of methodsOf(prototype))
        for (const { decorator, token, copy: itsCopy } of appliedTo(method)) {
          const label = `${(prototype as object).constructor.name}.${methodName}`;
          if (itsCopy !== THIS_COPY) throw twoCopies(`${label} has @${decorator}() of the other one`);
          if (wrapper.isNotMetatype && instance && instance[token] === undefined)
            throw madeByHand(label, decorator, (prototype as object).constructor.name);
        }
    }
  }
}

const prototypeOf = (type: unknown): unknown => (typeof type === 'function' ? type.prototype : undefined);

function methodsOf(prototype: unknown): [name: string, method: object][] {
  if (typeof prototype !== 'object' || prototype === null || prototype === Object.prototype) return [];
  return new MetadataScanner()
    .getAllMethodNames(prototype)
    .map((name) => [name, (prototype as Record<string, object>)[name]!]);
}

const twoCopies = (sign: string): ConfigurationError =>
  new ConfigurationError(
    `This application has two copies of nestjs-atomic-redis: ${sign}. Keep one: npm ls nestjs-atomic-redis shows the packages that bring them. Name it as a peer dependency ` +
      `in libraries, and leave it out of bundles, or bundle it once`,
  );

const madeByHand = (label: string, decorator: string, className: string): ConfigurationError =>
  new ConfigurationError(
    `${label} has @${decorator}(), but useFactory or useValue makes its object, so Nest does not inject the Redis that it needs. Have Nest make it: ` +
      `write { provide: ${className}, useClass: ${className} }, and inject into ${className} what the factory gives it`,
  );

/** Adds the remedy to an error that keeps an application from starting. */
export function withAdvice(error: unknown): unknown {
  if (error instanceof RedisUnavailableError) {
    const { message, cause } = error;
    return new RedisUnavailableError(
      `${message}. The application does not start without Redis. Start Redis or correct forRoot.connection; to start before Redis does, set lazyConnect: true`,
      { cause },
    );
  }
  if (error instanceof ConfigurationError && /\b(?:WRONGPASS|NOAUTH)\b/.test(error.message)) {
    const { message, cause } = error;
    return new ConfigurationError(
      `${message} Correct them: in the URL, in the options of the connection, or as forRoot.username and forRoot.password`,
      { cause },
    );
  }
  return error;
}
