import type { ServerResponse } from 'node:http';
import type { Subscriber } from 'rxjs';
import type { RouteResponse } from '../../problem-details/http-exception.js';
import type { Replay } from '../idempotent-run.js';
import type { HttpRequest } from '../../http/http-request.js';

/** A claimed run, as the wrapper of the route's method uses it. */
interface RouteRun {
  /** Runs the handler as part of the run. */
  handle(handler: () => unknown): Promise<unknown>;
  /** Returns what one call of the handler gets of its value. */
  given(value: unknown, caller: Subscriber<unknown> | undefined): unknown;
}

/** The result of a request's claim. */
export type ExchangeClaim = { readonly kind: 'run'; readonly run: RouteRun } | Replay;

/** One request to a decorated route, from before its handler to the end of its response. */
export interface HttpExchange {
  /** The interceptor of the decorator that is to answer the request. */
  readonly interceptor: object;
  /** True if Nest sends nothing, because the handler takes `@Res()` or `@Next()`. */
  readonly sendsByItself: boolean;
  readonly request: HttpRequest;
  /** The response of the framework, which is Node's own on Express. */
  readonly reply: RouteResponse;
  readonly response: ServerResponse;
  /** Made once, however often interceptors call the handler. */
  claim: Promise<ExchangeClaim> | undefined;
}
