import type { MethodSite } from '../method-wrapping/method-site.js';

const MARK = Symbol('nestjs-atomic-redis:rate-limit');

/** The note that `@RateLimit` leaves on its method. */
export interface RateLimitMark {
  readonly registration: string;
  readonly site: MethodSite;
  readonly phase: 'guard' | 'method';
  readonly hasKey: boolean;
  /** The operation of each route, by the prototype of its controller. Filled at boot. */
  readonly operations: WeakMap<object, string>;
}

export const rateLimitMarkOf = (method: object): RateLimitMark | undefined =>
  Reflect.getMetadata(MARK, method) as RateLimitMark | undefined;

export const markRateLimit = (method: object, mark: RateLimitMark): void =>
  Reflect.defineMetadata(MARK, mark, method);

/** Metadata of Nest. */
const PATH = 'path';
const RESOLVER = ['graphql:resolver_type', 'graphql:resolve_property'];

export const isRoute = (method: object): boolean => Reflect.hasMetadata(PATH, method);

/** Tells whether Nest's guards stand before the method, and have a request. */
export const isEntry = (method: object): boolean =>
  isRoute(method) || RESOLVER.some((key) => Reflect.hasMetadata(key, method));
