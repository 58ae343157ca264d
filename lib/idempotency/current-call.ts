import type { Subscriber } from 'rxjs';
import { AsyncScope } from '../runtime/async-scope.js';
import type { HttpExchange } from './http/exchange.js';
import type { IdempotencyService } from './idempotency.service.js';

/**
 * The surroundings of a call: a request or a message on its way to the handler, or a run of a
 * decorated method.
 */
export type CurrentCall =
  RequestCall | HandledCall | { readonly kind: 'message'; readonly interceptor: object } | RunningCall;

/** One call of a route's handler: interceptors may make several for one request. */
export interface RequestCall {
  readonly kind: 'request';
  readonly exchange: HttpExchange;
  /** Set where an interceptor calls the handler. */
  readonly handled: HandledCall | undefined;
}

/** A call of `handle()` by an interceptor, on its way to the handler. */
export interface HandledCall {
  readonly kind: 'handled';
  readonly interceptor: object;
  /** The caller, which closes when it gives up; set before the handler is reached. */
  caller: Subscriber<unknown> | undefined;
}

/** The names under which a run holds its key. */
export interface CallName {
  readonly scope: string;
  readonly operation: string;
  readonly key: string;
}

export interface RunningCall {
  readonly kind: 'run';
  readonly idempotency: IdempotencyService;
  readonly name: CallName;
  /** The request whose handler this is. */
  readonly exchange: HttpExchange | undefined;
  /** False once the run has ended: work that the method left behind is no part of it. */
  readonly isRunning: boolean;
}

// One for the whole process: a method of one registration may call one of another.
const calls = new AsyncScope<CurrentCall>();

/** The innermost request or run around the calling code. */
export const currentCall = (): CurrentCall | undefined => calls.find();

export const withinCall = <T>(call: CurrentCall, body: () => T): T => calls.run(call, body);

/** True if the calling code, or its caller, is part of the handler of `exchange`. */
export const isWithinHandler = (exchange: HttpExchange): boolean =>
  calls.find((call) => call.kind === 'run' && call.exchange === exchange) !== undefined;

/**
 * True if a run of `idempotency` that is still active surrounds the calling code, and `accepts`
 * accepts it.
 */
export const isPartOfRun = (
  idempotency: IdempotencyService,
  accepts: (run: RunningCall) => boolean,
): boolean =>
  calls.find(
    (call) => call.kind === 'run' && call.isRunning && call.idempotency === idempotency && accepts(call),
  ) !== undefined;

export const isSameCall = (one: CallName, other: CallName): boolean =>
  one.key === other.key && one.scope === other.scope && one.operation === other.operation;
