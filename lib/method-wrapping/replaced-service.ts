import { ConfigurationError } from '../atomic-redis.errors.js';

type Methods = Readonly<Record<string, ((...args: unknown[]) => unknown) | undefined>>;

/**
 * Returns true if a test has replaced a service, by an object with only the parts that the test
 * needs.
 */
export const isReplaced = (service: object, type: abstract new (...args: never[]) => object): boolean =>
  !(service instanceof type);

/** Calls a method of a service, unless a test has replaced the service by an object without it. */
export const callIfThere = (service: object, method: string, ...args: unknown[]): unknown =>
  (service as Methods)[method]?.(...args);

/** @throws ConfigurationError that names the method, if the replacement lacks it */
export function callReplacement(
  { service, name, decorator }: { service: object; name: string; decorator: string },
  method: string,
  ...args: unknown[]
): unknown {
  const methods = service as Methods;
  if (typeof methods[method] !== 'function') {
    throw new ConfigurationError(
      `@${decorator}() calls ${name}.${method}(), and the replacement of ${name} in this application lacks it: add it by overrideProvider(${name}).useValue({ ${method}: … })`,
    );
  }
  return methods[method](...args);
}
