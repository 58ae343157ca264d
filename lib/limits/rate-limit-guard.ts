import type { CallHandler, CanActivate, ExecutionContext, NestInterceptor, Type } from '@nestjs/common';
import {
  catchError,
  concat,
  defer,
  finalize,
  from,
  ignoreElements,
  mergeMap,
  throwError,
  type Observable,
} from 'rxjs';
import type { AtomicRedis } from '../atomic-redis.js';
import { ConfigurationError } from '../atomic-redis.errors.js';
import { attachedName } from '../http/attached-name.js';
import type { HttpRequest } from '../http/http-request.js';
import { siteNameOf } from '../method-wrapping/method-site.js';
import { STAND_IN } from '../method-wrapping/stand-in.js';
import { injectRegistration } from '../method-wrapping/wrap-method.js';
import { atEdge, tellLimits, type RouteResponse } from '../problem-details/http-exception.js';
import { hashTag } from '../scripting/hash-slot.js';
import type { ResolvedRateLimit } from './rate-limit.options.js';
import { takesAtEntry, type RateLimitMark } from './rate-limit-mark.js';
import type { Admission, RateLimiter } from './rate-limiter.js';

/** Metadata of Nest. */
const GUARDS = '__guards__';
const INTERCEPTORS = '__interceptors__';

type Settle = NonNullable<Admission['settle']>;

/**
 * Gives each attempt of a call its own reservation: the first that of the guard, and one that an
 * interceptor repeats a new one. By the id of the entry.
 */
type Reservations = WeakMap<object, () => Promise<Settle>>;

interface EntryRequest extends HttpRequest {
  readonly ip?: unknown;
}

/** The information that GraphQL gives a resolver as its fourth argument. */
interface ResolverInfo {
  readonly parentType: { readonly name: string };
  readonly fieldName: string;
}

/** A call of a route or a resolver. */
interface Entry {
  /** Is the same for the guard and the interceptor of one call. */
  readonly id: object;
  readonly request: EntryRequest;
  /** Undefined for a resolver, which shares its response with others. */
  readonly response: RouteResponse | undefined;
  readonly operation: string;
}

/**
 * Sets the limiter before the method's other guards, and with `onError: 'refund'` around its
 * interceptors. Guards and interceptors of the class and the application stand outside, so a guard
 * of theirs may attach the caller.
 */
export function limitAtEntry(
  limiter: RateLimiter,
  options: ResolvedRateLimit,
  mark: RateLimitMark,
  method: object,
): void {
  const reservations: Reservations = new WeakMap();
  const guard = guardOf(options, async (redis, context) => {
    // Before a field's resolver guards stand only where the application asks for them.
    if (!takesAtEntry(mark, method)) return;
    const entry = entryOf(mark, context);
    // The method's wrapper leaves it to this guard, so the call would not be limited.
    if (!entry)
      throw new ConfigurationError(
        `${siteNameOf(mark.site)} was called over ${context.getType<string>()}, which has no request that @RateLimit() could limit in the phase 'guard': @RateLimit({ phase: 'method', key: …, … })`,
      );
    let first = await admitEntry(limiter, options, redis, entry);
    if (!first) return;
    reservations.set(entry.id, async () => {
      const settle = first ?? (await admitEntry(limiter, options, redis, entry));
      first = undefined;
      return settle!;
    });
  });
  putFirst(GUARDS, method, guard);
  if (options.refundTtlMs !== undefined)
    putFirst(INTERCEPTORS, method, new SettlingInterceptor(mark, reservations));
}

/** @returns what settles the call's reservation, with `onError: 'refund'` */
async function admitEntry(
  limiter: RateLimiter,
  options: ResolvedRateLimit,
  { limits }: AtomicRedis,
  entry: Entry,
): Promise<Settle | undefined> {
  try {
    const key = await keyOf(options, entry);
    const { policies, settle } = await limiter.admit(limits, key, options.cost as number);
    if (entry.response) tellLimits(entry.response, policies);
    return settle;
  } catch (error) {
    // Also without the module's filter the client gets the status.
    throw entry.response ? atEdge(error, entry.response) : error;
  }
}

function guardOf(
  { name }: ResolvedRateLimit,
  admit: (redis: AtomicRedis, context: ExecutionContext) => Promise<void>,
): Type<CanActivate> {
  class RateLimitGuard implements CanActivate {
    async canActivate(context: ExecutionContext): Promise<boolean> {
      const redis = (this as unknown as Record<symbol, AtomicRedis>)[token]!;
      // In a unit test the method's wrapper decides.
      if (!(STAND_IN in redis)) await admit(redis, context);
      return true;
    }
  }
  const token = injectRegistration(RateLimitGuard.prototype, name);
  return RateLimitGuard;
}

/** Settles what is reserved for a call, once the call has ended. */
class SettlingInterceptor implements NestInterceptor {
  constructor(
    private readonly mark: RateLimitMark,
    private readonly reservations: Reservations,
  ) {}

  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    const id = entryOf(this.mark, context)?.id;
    const reserve = id && this.reservations.get(id);
    return reserve ? settled(next, await reserve()) : next.handle();
  }
}

function settled(next: CallHandler, settle: Settle): Observable<unknown> {
  let isOver = false;
  const end = (error?: unknown): Observable<void> => {
    isOver = true;
    return from(settle(error));
  };
  const run = next
    .handle()
    .pipe(catchError((error: unknown) => end(error).pipe(mergeMap(() => throwError(() => error)))));
  return concat(run, defer(() => end()).pipe(ignoreElements())).pipe(
    // Unsubscribed, by a time-out or by a client that is gone: the call may have run, so it has its
    // cost.
    finalize(() => {
      if (!isOver) void settle();
    }),
  );
}

function entryOf(mark: RateLimitMark, context: ExecutionContext): Entry | undefined {
  const type = context.getType<string>();
  if (type === 'http') {
    const http = context.switchToHttp();
    const request = http.getRequest<EntryRequest>();
    const prototype = context.getClass().prototype as object;
    const operation = mark.operations.get(prototype) ?? mark.site.methodName;
    return { id: request.raw ?? request, request, response: http.getResponse(), operation };
  }
  if (type !== 'graphql') return undefined;
  const given = context.getArgByIndex<GraphqlContext | undefined>(2);
  const { parentType, fieldName } = context.getArgByIndex<ResolverInfo>(3);
  const request = given?.req ?? given?.request ?? given?.reply?.request ?? ({ headers: {} } as EntryRequest);
  const info = context.getArgByIndex<object>(3);
  return { id: info, request, response: undefined, operation: `${parentType.name}.${fieldName}` };
}

/** The context of a resolver: of Apollo, of others, of Mercurius. */
interface GraphqlContext {
  readonly req?: EntryRequest;
  readonly request?: EntryRequest;
  readonly reply?: { readonly request?: EntryRequest };
}

/**
 * Callers that nothing tells apart share a limit. The caller comes first, so that all limits of a
 * caller lie in one slot.
 */
async function keyOf({ key, requestKey }: ResolvedRateLimit, { request, operation }: Entry): Promise<string> {
  if (typeof key === 'string') return key;
  if (requestKey) return await requestKey(request);
  const name = attachedName(request);
  const caller = name
    ? name.map((part) => `${part.length}:${part}`).join('')
    : `ip:${typeof request.ip === 'string' ? request.ip : ''}`;
  return `${hashTag(withoutBraces(caller))}:${operation}`;
}

/** Names of users and forwarded addresses may hold braces, which no hash tag can. */
const withoutBraces = (caller: string): string =>
  caller.replaceAll(/[%{}]/g, (one) => `%${one.charCodeAt(0).toString(16)}`);

function putFirst(metadata: string, method: object, one: unknown): void {
  const others = (Reflect.getMetadata(metadata, method) as unknown[] | undefined) ?? [];
  Reflect.defineMetadata(metadata, [one, ...others], method);
}
