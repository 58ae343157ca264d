import { ConfigurationError } from '../atomic-redis.errors.js';

type Methods = Readonly<Record<string, ((...args: unknown[]) => unknown) | undefined>>;

/** Tells whether a test has replaced a service, by an object that has only what the test needs. */
export const isReplaced = (service: object, type: abstract new (...args: never[]) => object): boolean =>
  !(service instanceof type);

/** Calls a method that the module needs of a service, unless a test has replaced the service by something without it. */
export const callIfThere = (service: object, method: string, ...args: unknown[]): unknown =>
  (service as Methods)[method]?.(...args);

/** @throws ConfigurationError that names the method, where the replacement lacks it */
export function callReplacement(
  { service, name, decorator }: { service: object; name: string; decorator: string },
  method: string,
  ...args: unknown[]
): unknown {
  const methods = service as Methods;
  if (typeof methods[method] !== 'function') {
    throw new ConfigurationError(
      `@${decorator}() calls ${name}.${method}(), and what this application has in the place of ${name} lacks it: give it to overrideProvider(${name}).useValue({ ${method}: … })`,
    );
  }
  return methods[method](...args);
}
