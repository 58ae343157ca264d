import type { ServerResponse } from 'node:http';
import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { EMPTY, Observable } from 'rxjs';
import { ConfigurationError } from '../../atomic-redis.errors.js';
import type { RouteResponse } from '../../problem-details/http-exception.js';
import type { AroundRoute } from '../../problem-details/route-edge.js';
import { currentCall, withinCall, type HandledCall, type RequestCall } from '../current-call.js';
import { metadataOf } from '../messages/handler-kind.js';
import { interceptMessage } from '../messages/message-context.js';
import type { HttpExchange } from './exchange.js';
import type { HttpRequest } from '../../http/http-request.js';
import { ReplayTap } from './replay-tap.js';
import { isBegun } from './raw-response.js';
import type { WireResponse } from './wire-response.js';

// One for the whole process: an interceptor asks with the request alone.
const replays = new WeakSet();

/** True if the response to this request, of Express or Fastify, is a recorded one. */
export const isReplay = (request: object): boolean => replays.has(rawOf(request));

/**
 * Returns whether `@Idempotent` answers this request with a recorded response. Interceptors above
 * it can ask once the handler's Observable has completed, which is without a value then.
 *
 * ```ts
 * return next.handle().pipe(finalize(() => isIdempotentReplay(context) || this.metrics.count('orders')));
 * ```
 */
export const isIdempotentReplay = (context: ExecutionContext): boolean =>
  context.getType() === 'http' && isReplay(context.switchToHttp().getRequest<object>());

const rawOf = (request: object): object => (request as { raw?: object }).raw ?? request;

/**
 * Lets the wrapper of one decorated method know the request or message that calls it as a handler.
 *
 * The edge of the route tells of a request. An interceptor of Nest is needed beside other
 * interceptors only, which may give up a call and make another one. It is then the innermost
 * ({@link moveInnermost}). Alone it would cost more than the rest of the way through Nest.
 */
export class HandlerCalls implements NestInterceptor {
  /** The exchange is kept on its request, not in a WeakMap: see docs/decisions/scripts.md. */
  private readonly exchange = Symbol('exchange');

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    if (context.getType() !== 'http')
      return withinCall({ kind: 'message', interceptor: this }, () => interceptMessage(this, context, next));
    // The handler runs in the surroundings in which `handle` is called, whenever it is subscribed
    // to.
    const call: HandledCall = { kind: 'handled', interceptor: this, caller: undefined };
    const handled = withinCall(call, () => next.handle());
    return new Observable((caller) => {
      call.caller = caller;
      return handled.subscribe(caller);
    });
  }

  /** Runs a call of the handler by Nest's router. */
  readonly aroundRoute: AroundRoute = (reply, sendsByItself, proceed) => {
    const exchange = this.exchangeOf(reply, sendsByItself);
    const around = currentCall();
    const handled = around?.kind === 'handled' && around.interceptor === this ? around : undefined;
    return withinCall({ kind: 'request', exchange, handled }, proceed);
  };

  /**
   * The request or message that calls this decorator's method as its handler; none for a call from
   * inside a handler.
   */
  current(): RequestCall | 'message' | undefined {
    const call = currentCall();
    if (call?.kind === 'request' && call.exchange.interceptor === this) return call;
    return call?.kind === 'message' && call.interceptor === this ? 'message' : undefined;
  }

  private exchangeOf(reply: RouteResponse, sendsByItself: boolean): HttpExchange {
    const request = (reply.req ?? reply.request) as HttpRequest & { [exchange: symbol]: HttpExchange };
    const known = request[this.exchange];
    // A copy of a request, or one that inherits from it, is another request.
    if (known?.request === request) return known;
    const response = (reply.raw ?? reply) as ServerResponse;
    const exchange = { interceptor: this, sendsByItself, request, reply, response, claim: undefined };
    request[this.exchange] = exchange;
    return exchange;
  }
}

/** Responses that were given their empty answer. */
const answered = new WeakSet<object>();

/**
 * Has the framework send an empty response to a replayed request, with the headers of this
 * exchange. The tap puts the recorded one in its place.
 */
export function answerReplay(reply: RouteResponse): void {
  // A hook of Fastify may still be working on the first answer, before any header is sent.
  if (answered.has(reply) || (reply.raw ?? reply).headersSent) return;
  answered.add(reply);
  if (reply.send) reply.send();
  else reply.end?.();
}

const INTERCEPTORS = '__interceptors__';
const FILTERS = '__exceptionFilters__';

/** Metadata of methods that are called for messages too. */
const MESSAGES = [
  'microservices:pattern',
  'websockets:message_mapping',
  'graphql:resolver_type',
  'graphql:resolver_name',
  'RABBIT_HANDLER',
];

/**
 * Makes the interceptor of `@Idempotent` the innermost one of its method, and its filter the first.
 * Nest reads both from the method when it makes the routes.
 */
export function moveInnermost(method: object, interceptor: object): void {
  Reflect.defineMetadata(INTERCEPTORS, [...othersOf(INTERCEPTORS, method), interceptor], method);
  const filters = (Reflect.getMetadata(FILTERS, method) ?? []) as unknown[];
  Reflect.defineMetadata(FILTERS, [...othersOf(FILTERS, method), ...filters.filter(isOurs)], method);
}

/** Methods of which an application of this process needs the interceptor. */
const needed = new WeakSet();

/**
 * Takes its interceptor from a route that has no other one. A method that several applications of
 * this process share keeps it where one of them needs it: Nest reads a route of a request-scoped
 * controller again for each request.
 */
export function spareInterceptor(method: object, type: object, hasGlobal: boolean): void {
  const metadata = metadataOf(method);
  const isForRequests = metadata.has('path') && !MESSAGES.some((key) => metadata.has(key));
  const others = othersOf(INTERCEPTORS, method);
  if (hasGlobal || others.length > 0 || Reflect.hasMetadata(INTERCEPTORS, type) || !isForRequests)
    needed.add(method);
  else if (!needed.has(method)) Reflect.defineMetadata(INTERCEPTORS, others, method);
}

const othersOf = (key: string, method: object): unknown[] =>
  ((Reflect.getMetadata(key, method) ?? []) as unknown[]).filter((one) => !isOurs(one));

const ours = new WeakSet();

/** Notes that an interceptor or filter is one that {@link moveInnermost} moves. */
export const markOurs = <T extends object>(enhancer: T): T => {
  ours.add(enhancer);
  return enhancer;
};

const isOurs = (one: unknown): boolean => ours.has(one as object);

/** Lets interceptors and filters know that the request is answered from the record. */
export const noteReplay = ({ request }: HttpExchange): void => void replays.add(rawOf(request));

/**
 * Sends a recorded response in place of the framework's own. A response that another has begun
 * stays as it is.
 * @returns the value of the handler: interceptors see that there is none
 */
export function sendRecorded(exchange: HttpExchange, recorded: WireResponse): Observable<never> {
  noteReplay(exchange);
  if (!isBegun(exchange.response)) ReplayTap.of(exchange.response, recorded);
  // An interceptor may turn the missing value into one, and Nest would send nothing.
  if (exchange.sendsByItself) answerReplay(exchange.reply);
  return EMPTY;
}

const SSE = '__sse__';

/** @throws ConfigurationError when `method` sends events, which have no end to keep and replay */
export function refuseEvents(method: object, name: string): void {
  if (Reflect.getMetadata(SSE, method) === undefined) return;
  throw new ConfigurationError(
    `${name} is an @Sse() route: a stream of events cannot be replayed, so it cannot be @Idempotent()`,
  );
}
