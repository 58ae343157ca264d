import { AsyncLocalStorage } from 'node:async_hooks';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { Observable, tap } from 'rxjs';
import { ResponseTap } from './response-tap.js';

/** What Express and Fastify both put on a request. */
export interface HttpRequest {
  readonly method: string;
  readonly originalUrl?: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body?: unknown;
  readonly user?: unknown;
  readonly session?: unknown;
  /** Node's own request behind Fastify's. */
  readonly raw?: IncomingMessage;
  readonly headersDistinct?: IncomingMessage['headersDistinct'];
}

/** One request to a decorated route, from before its handler to the end of its response. */
export interface HttpExchange {
  readonly request: HttpRequest;
  readonly tap: ResponseTap;
}

/**
 * Goes with one decorated route. Taps the response and hands the exchange to the method's wrapper, which claims the key only after guards
 * and pipes have let the request through.
 */
export class HttpExchangeInterceptor implements NestInterceptor {
  private readonly current = new AsyncLocalStorage<{ exchange: HttpExchange | undefined }>();

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    if (context.getType() !== 'http') return next.handle();
    const http = context.switchToHttp();
    const response = http.getResponse<ServerResponse & { raw?: ServerResponse }>();
    const exchange: HttpExchange = {
      request: http.getRequest<HttpRequest>(),
      tap: new ResponseTap(response.raw ?? response),
    };
    const handled = new Observable<unknown>((subscriber) =>
      this.current.run({ exchange }, () => next.handle().subscribe(subscriber)),
    );
    return sendsByItself(context)
      ? handled.pipe(tap({ complete: () => exchange.tap.sendReplay() }))
      : handled;
  }

  /** The exchange that called the route's handler; once, so that a call of the same method from inside is not taken for it. */
  take(): HttpExchange | undefined {
    const store = this.current.getStore();
    const exchange = store?.exchange;
    if (store) store.exchange = undefined;
    return exchange;
  }
}

const ROUTE_ARGUMENTS = '__routeArguments__';
const RESPONSE_ARGUMENT = 1;
const NEXT_ARGUMENT = 2;

/** Whether the handler takes `@Res()` or `@Next()`, so that Nest sends nothing for it. */
function sendsByItself(context: ExecutionContext): boolean {
  const args = (Reflect.getMetadata(ROUTE_ARGUMENTS, context.getClass(), context.getHandler().name) ??
    {}) as Record<string, { data?: { passthrough?: boolean } }>;
  return Object.entries(args).some(([type, { data }]) => {
    const kind = Number(type.split(':')[0]);
    return (kind === RESPONSE_ARGUMENT || kind === NEXT_ARGUMENT) && !data?.passthrough;
  });
}
