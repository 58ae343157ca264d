import type { ServerResponse } from 'node:http';
import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { tap, type Observable } from 'rxjs';
import { ConfigurationError } from '../../atomic-redis.errors.js';
import { currentCall, withinCall } from '../current-call.js';
import type { Replay } from '../idempotent-run.js';
import { interceptMessage } from '../messages/message-context.js';
import type { ExchangeRun } from './exchange-run.js';
import { versionOf, type HttpRequest } from './http-request.js';
import { ResponseTap } from './response-tap.js';

/** What the claim of a request came to. */
export type ExchangeClaim = { readonly kind: 'run'; readonly run: ExchangeRun } | Replay;

/** What is the same for every request to a route. */
interface Route {
  /** As part of its operation. */
  readonly version: string;
  /** Whether the handler is given the response. */
  readonly takesResponse: boolean;
  /** Whether Nest therefore sends nothing for it. */
  readonly sendsByItself: boolean;
}

/** One request to a decorated route, from before its handler to the end of its response. */
export interface HttpExchange {
  /** The interceptor of the route: that of the decorator which is to answer the request. */
  readonly interceptor: HttpExchangeInterceptor;
  readonly route: Route;
  readonly request: HttpRequest;
  readonly tap: ResponseTap;
  /** Made once, however often interceptors call the handler. */
  claim: Promise<ExchangeClaim> | undefined;
}

/**
 * Goes with one decorated route. Taps the response and hands the exchange to the method's wrapper, which claims the key only after guards
 * and pipes have let the request through.
 */
export class HttpExchangeInterceptor implements NestInterceptor {
  /** By controller: several may inherit the method. */
  private readonly routes = new WeakMap<object, Route>();

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    if (context.getType() !== 'http') return interceptMessage(this, context, next);
    const http = context.switchToHttp();
    const response = http.getResponse<ServerResponse & { raw?: ServerResponse }>();
    const exchange: HttpExchange = {
      interceptor: this,
      route: this.routeOf(context),
      request: http.getRequest<HttpRequest>(),
      tap: new ResponseTap(response.raw ?? response),
      claim: undefined,
    };
    // What comes next runs in the surroundings in which `handle` is called, whenever it is subscribed to.
    const handled = withinCall({ kind: 'request', exchange }, () => next.handle());
    return exchange.route.sendsByItself
      ? handled.pipe(tap({ complete: () => exchange.tap.sendReplay() }))
      : handled;
  }

  /** The request that calls this decorator's method as its handler; none for a call from inside a handler. */
  current(): HttpExchange | undefined {
    const call = currentCall();
    return call?.kind === 'request' && call.exchange.interceptor === this ? call.exchange : undefined;
  }

  private routeOf(context: ExecutionContext): Route {
    const type = context.getClass();
    let route = this.routes.get(type);
    if (!route) {
      const handler = context.getHandler();
      refuseEvents(handler, `${type.name}.${handler.name}`);
      route = { version: versionOf(type, handler), ...responseUse(type, handler.name) };
      this.routes.set(type, route);
    }
    return route;
  }
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

/** Whether the handler takes `@Res()` or `@Next()`, and whether Nest therefore sends nothing for it. */
function responseUse(type: object, methodName: string): Omit<Route, 'version'> {
  const read = (key: string): unknown => Reflect.getMetadata(key, type, methodName);
  const args = Object.keys(read(ROUTE_ARGUMENTS) ?? {}).map((key) => Number(key.split(':')[0]));
  const takesResponse = args.some((kind) => kind === RESPONSE_ARGUMENT || kind === NEXT_ARGUMENT);
  return { takesResponse, sendsByItself: takesResponse && !read(RESPONSE_PASSTHROUGH) };
}
