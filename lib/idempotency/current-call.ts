import { AsyncLocalStorage } from 'node:async_hooks';
import type { HttpExchange } from './http/http-exchange.js';
import type { IdempotencyService } from './idempotency.service.js';

/** What the calling code is part of: a request on its way to the handler, or a run of a decorated method. */
export type CurrentCall =
  | { readonly kind: 'request'; readonly exchange: HttpExchange; readonly outer: CurrentCall | undefined }
  | RunningCall;

export interface RunningCall {
  readonly kind: 'run';
  readonly idempotency: IdempotencyService;
  /** Scope, operation and key, so written that no two triples are alike. */
  readonly id: string;
  /** The request whose handler this is. */
  readonly exchange: HttpExchange | undefined;
  /** Whether the run has not come to its end: work that the method left behind is no part of it. */
  readonly isRunning: () => boolean;
  readonly outer: CurrentCall | undefined;
}

// Of the whole process: a method of one registration may call one of another.
const calls = new AsyncLocalStorage<CurrentCall>();

export const currentCall = (): CurrentCall | undefined => calls.getStore();

export const withinCall = <T>(call: CurrentCall, body: () => T): T => calls.run(call, body);

export const callId = (scope: string, operation: string, key: string): string =>
  JSON.stringify([scope, operation, key]);

/** The innermost run around the calling code that `accepts` takes for its own. */
export function enclosingRun(accepts: (run: RunningCall) => boolean): RunningCall | undefined {
  for (let call = calls.getStore(); call; call = call.outer)
    if (call.kind === 'run' && call.isRunning() && accepts(call)) return call;
  return undefined;
}
