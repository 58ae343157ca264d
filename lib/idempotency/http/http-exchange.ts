import type { ServerResponse } from 'node:http';
import type { ArgumentsHost, CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { Observable, tap } from 'rxjs';
import { ConfigurationError } from '../../atomic-redis.errors.js';
import { isOwnArgument } from '../../problem-details/route-edge.js';
import { currentCall, withinCall, type RequestCall } from '../current-call.js';
import { interceptMessage } from '../messages/message-context.js';
import type { HttpExchange, Route } from './exchange.js';
import type { HttpRequest } from '../../http/http-request.js';
import { ReplayTap } from './replay-tap.js';
import { isBegun } from './response-tap.js';
import type { WireResponse } from './wire-response.js';

/**
 * The method's wrapper returns it in place of the handler's value when the recorded response is
 * sent.
 */
export const REPLAYED = Symbol('replayed');

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
 * Goes with one decorated route, as the innermost of its interceptors ({@link moveInnermost}): only
 * Nest's own code lies between it and the method's wrapper, which claims the key once guards and
 * pipes have let the request through. Interceptors above may therefore call `handle()` whenever,
 * from wherever and as often as they like.
 */
export class HttpExchangeInterceptor implements NestInterceptor {
  /** By controller: several may inherit the method. */
  private readonly routes = new WeakMap<object, Route>();
  /** The exchange is kept on its request, not in a WeakMap: see docs/decisions/scripts.md. */
  private readonly exchange = Symbol('exchange');

  /**
   * @param methodName the name under which the method is decorated; a decorator above may give its
   * wrapper another
   */
  constructor(private readonly methodName: string) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    if (context.getType() !== 'http')
      return withinCall({ kind: 'message', interceptor: this }, () => interceptMessage(this, context, next));
    const exchange = this.exchangeOf(context);
    // The handler runs in the surroundings in which `handle` is called, whenever it is subscribed
    // to.
    const call: RequestCall = { kind: 'request', exchange, caller: undefined };
    const handled = withinCall(call, () => next.handle());
    const values = new Observable((caller) => {
      call.caller = caller;
      return handled.subscribe({
        next: (value) => value !== REPLAYED && caller.next(value),
        error: (error: unknown) => caller.error(error),
        complete: () => caller.complete(),
      });
    });
    // Nest sends nothing for such a route, and an interceptor above may turn the missing value into
    // one.
    return exchange.route.sendsByItself
      ? values.pipe(tap({ complete: () => answerReplay(exchange.request, context) }))
      : values;
  }

  /**
   * The request or message that calls this decorator's method as its handler; none for a call from
   * inside a handler.
   */
  current(): RequestCall | 'message' | undefined {
    const call = currentCall();
    if (call?.kind === 'request' && call.exchange.interceptor === this) return call;
    return call?.kind === 'message' && call.interceptor === this ? 'message' : undefined;
  }

  private exchangeOf(context: ExecutionContext): HttpExchange {
    const http = context.switchToHttp();
    const request = http.getRequest<HttpRequest & { [exchange: symbol]: HttpExchange | undefined }>();
    const known = request[this.exchange];
    // A copy of a request, or one that inherits from it, is another request.
    if (known?.request === request) return known;
    const response = http.getResponse<ServerResponse & { raw?: ServerResponse }>();
    const exchange: HttpExchange = {
      interceptor: this,
      route: this.routeOf(context),
      request,
      response: response.raw ?? response,
      claim: undefined,
    };
    request[this.exchange] = exchange;
    return exchange;
  }

  private routeOf(context: ExecutionContext): Route {
    const type = context.getClass();
    let route = this.routes.get(type);
    if (!route) {
      const handler = context.getHandler();
      refuseEvents(handler, `${type.name}.${this.methodName}`);
      route = { sendsByItself: sendsByItself(type, this.methodName) };
      this.routes.set(type, route);
    }
    return route;
  }
}

interface AnyResponse {
  send?(): unknown;
  end(): unknown;
  readonly headersSent?: boolean;
  readonly sent?: boolean;
}

/**
 * Has the framework send an empty response to a replayed request, with the headers of this
 * exchange. The tap puts the recorded one in its place.
 * @returns whether the request is a replay
 */
export function answerReplay(request: object, context: ArgumentsHost): boolean {
  if (!isReplay(request)) return false;
  const response = context.switchToHttp().getResponse<AnyResponse>();
  if (response.sent ?? response.headersSent) return true;
  if (response.send) response.send();
  else response.end();
  return true;
}

const INTERCEPTORS = '__interceptors__';
const FILTERS = '__exceptionFilters__';

/**
 * Makes the interceptor of `@Idempotent` the innermost one of its route, and its filter the first.
 * Nest reads both from the method when it makes the routes.
 */
export function moveInnermost(method: object): void {
  for (const key of [INTERCEPTORS, FILTERS]) {
    const given = Reflect.getMetadata(key, method) as unknown[] | undefined;
    const own = given?.filter(isOurs);
    if (own?.length) Reflect.defineMetadata(key, [...given!.filter((one) => !isOurs(one)), ...own], method);
  }
}

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
 * @returns the value that stands for it until the interceptor sees it
 */
export function sendRecorded(exchange: HttpExchange, recorded: WireResponse): typeof REPLAYED {
  noteReplay(exchange);
  if (!isBegun(exchange.response)) ReplayTap.of(exchange.response, recorded);
  return REPLAYED;
}

const SSE = '__sse__';

/** @throws ConfigurationError when `method` sends events, which have no end to keep and replay */
export function refuseEvents(method: object, name: string): void {
  if (Reflect.getMetadata(SSE, method) === undefined) return;
  throw new ConfigurationError(
    `${name} is an @Sse() route: a stream of events cannot be replayed, so it cannot be @Idempotent()`,
  );
}

const ROUTE_ARGUMENTS = '__routeArguments__';
const RESPONSE_PASSTHROUGH = '__responsePassthrough__';
const RESPONSE_ARGUMENT = 1;
const NEXT_ARGUMENT = 2;

/** Returns true if Nest sends nothing for the handler, because it takes `@Res()` or `@Next()`. */
function sendsByItself(type: object, methodName: string): boolean {
  const read = (key: string): unknown => Reflect.getMetadata(key, type, methodName);
  const args = Object.keys(read(ROUTE_ARGUMENTS) ?? {})
    .filter(isOwnArgument)
    .map((key) => Number(key.split(':')[0]));
  const takesResponse = args.some((kind) => kind === RESPONSE_ARGUMENT || kind === NEXT_ARGUMENT);
  return takesResponse && !read(RESPONSE_PASSTHROUGH);
}
