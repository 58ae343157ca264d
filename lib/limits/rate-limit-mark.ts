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
  /**
   * The result of {@link isEntry} for the method as Nest finds it: a decorator between `@RateLimit`
   * and that of the route may have put another function in its place. Set at boot.
   */
  isEntry: boolean | undefined;
}

export const rateLimitMarkOf = (method: object): RateLimitMark | undefined =>
  Reflect.getMetadata(MARK, method) as RateLimitMark | undefined;

export const markRateLimit = (method: object, mark: RateLimitMark): void =>
  Reflect.defineMetadata(MARK, mark, method);

/** Metadata of Nest. */
const PATH = 'path';
const RESOLVER_TYPE = 'graphql:resolver_type';
/** The resolvers that Nest puts guards before. Before those of fields there are none by default. */
const ROOTS: readonly unknown[] = ['Query', 'Mutation', 'Subscription'];

export const isRoute = (method: object): boolean => Reflect.hasMetadata(PATH, method);

/** Tells whether Nest's guards stand before the method, and have a request. */
export const isEntry = (method: object): boolean =>
  isRoute(method) || ROOTS.includes(Reflect.getMetadata(RESOLVER_TYPE, method) as unknown);

/** Metadata of Nest on methods that messages reach: of microservices, and of gateways. */
const MESSAGE_HANDLERS = ['microservices:pattern', 'websockets:message_mapping'];

export const isMessageHandler = (method: object): boolean =>
  MESSAGE_HANDLERS.some((name) => Reflect.hasMetadata(name, method));

/** True if the guard takes, and not the method's wrapper. */
export const takesAtEntry = (mark: RateLimitMark, method: object): boolean =>
  mark.phase === 'guard' && (mark.isEntry ?? isEntry(method));
