import { Inject } from '@nestjs/common';
import 'reflect-metadata';
import { DEFAULT_REGISTRATION, getAtomicRedisToken } from '../atomic-redis.constants.js';
import { ConfigurationError, describe } from '../atomic-redis.errors.js';
import type { AtomicRedis } from '../atomic-redis.js';
import { noteDecorator } from './decorator-order.js';
import { siteNameOf, siteOf, type AtomicDecorator, type MethodCall, type MethodSite } from './method-site.js';
import { STAND_IN, type StandIn, type StandInFacts } from './stand-in.js';

export interface WrapOptions {
  decorator: AtomicDecorator;
  /** The registration whose services are used. */
  name?: string | undefined;
  around: (redis: AtomicRedis, call: MethodCall) => unknown;
  /** The facts of the decorator, for a stand-in. */
  forStandIn?: StandInFacts;
}

/**
 * A decorator for methods whose parameters begin with those of the callbacks `A` and `B`, and that
 * return `Result`. A callback that annotates another type than the method's, or more parameters
 * than the method has, does not compile. Nor does a method that returns no promise.
 *
 * The descriptor is typed by the parts that are read of it, so that overloaded methods and those of
 * generic classes fit.
 */
export type CheckedMethodDecorator<
  A extends unknown[] = [],
  B extends unknown[] = [],
  Instance extends object = object,
  Result = PromiseLike<unknown>,
> = <Args extends [...A, ...unknown[]] & [...B, ...unknown[]], Method extends (...args: never[]) => unknown>(
  target: Instance,
  key: string | symbol,
  descriptor: { value?: Method & ((...args: Args) => Result) } & HasAll<Parameters<Method>, A> &
    HasAll<Parameters<Method>, B>,
) => void;

/**
 * Requires every parameter that a callback takes. Compares only their number: a condition cannot
 * compare types of a generic class.
 */
type HasAll<Given extends unknown[], Taken extends unknown[]> =
  Places<Given> extends Places<[...Taken, ...unknown[]]>
    ? unknown
    : { 'a callback of the decorator takes more parameters than the method': Taken };

type Places<List extends unknown[]> = { [Index in keyof List]: unknown };

type AnyMethod = (...args: unknown[]) => unknown;

/**
 * The one place that wraps a method. It gets the services by property injection. So two
 * applications in one process, subclasses and request-scoped instances each have their own, and an
 * application that does not import the module does not boot.
 *
 * The wrapper is a Proxy. It keeps the method's name and length, and carries the metadata that
 * decorators below have set.
 *
 * @throws ConfigurationError on anything but a method of a class, and on decorators in the wrong
 * order
 */
export function wrapMethod(
  options: WrapOptions,
  target: object,
  key: string | symbol,
  descriptor: PropertyDescriptor | undefined,
): void {
  const { site, method, at } = decoratedMethod(options.decorator, target, key, descriptor);
  const token = getAtomicRedisToken(options.name);
  noteDecorator(site, method, token);
  injectRegistration(target, options.name);

  const wrapper = new Proxy(method, {
    apply(original, self: object, args: unknown[]) {
      const redis = (self as Record<symbol, AtomicRedis | undefined> | undefined)?.[token];
      if (!redis) {
        throw new ConfigurationError(
          `${siteNameOf(site)} was called on an object that Nest did not create, so @${site.decorator}() has no Redis. ` +
            `Inject ${site.className} instead of making it with new or in a useFactory. In a unit test, have Nest make it: ` +
            `Test.createTestingModule({ imports: [AtomicRedisTestingModule], providers: [${site.className}] }), with the module from nestjs-atomic-redis/testing`,
        );
      }
      const call = { instance: self, args, proceed: () => Reflect.apply(original, self, args) };
      const standIn = (redis as Partial<StandIn>)[STAND_IN];
      if (standIn) return standIn.call(redis, site, call, options.forStandIn ?? {});
      return options.around(redis, call);
    },
  });
  for (const metadataKey of Reflect.getOwnMetadataKeys(method)) {
    Reflect.defineMetadata(metadataKey, Reflect.getOwnMetadata(metadataKey, method), wrapper);
  }
  at.value = wrapper;
}

/**
 * Makes Nest inject the registration into instances of the class. An application without it does
 * not start.
 * @returns the property that holds it
 */
export function injectRegistration(target: object, name: string = DEFAULT_REGISTRATION): symbol {
  const token = getAtomicRedisToken(name);
  Inject(token)(target, token);
  return token;
}

/** @throws ConfigurationError on anything but a method of a class, naming class and member */
export function decoratedMethod<Decorator extends string>(
  decorator: Decorator,
  target: object,
  key: string | symbol,
  descriptor: PropertyDescriptor | undefined,
): { site: MethodSite<Decorator>; method: AnyMethod; at: PropertyDescriptor } {
  const isStatic = typeof target === 'function';
  const site = siteOf(decorator, target, key);
  const method: unknown = descriptor?.value;
  if (isStatic || typeof method !== 'function' || !descriptor) {
    const found = isStatic ? 'a static member' : describe(method);
    throw new ConfigurationError(
      `@${decorator}() goes on a method of a class, but ${siteNameOf(site)} is ${found}`,
    );
  }
  return { site, method: method as AnyMethod, at: descriptor };
}
