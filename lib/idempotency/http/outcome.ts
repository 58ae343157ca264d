import { HttpException, Logger } from '@nestjs/common';
import { AtomicRedisError, describe } from '../../atomic-redis.errors.js';
import { chosenPolicy, type OnErrorOption } from '../error-policy.js';
import type { TombstoneReason } from '../idempotency.errors.js';
import type { OnError } from '../idempotency.options.js';
import { isDecodable, type WireResponse } from './wire-response.js';

const logger = new Logger('Idempotent');

/** A response as `onResponse` sees it. @inline */
export interface AnsweredResponse {
  readonly status: number;
  /** The headers that a replay repeats, by their names in lower case. */
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly body: Buffer;
}

/** Decides the fate of the key of an answered request. @inline */
export type OnResponse = (response: AnsweredResponse) => OnError;

/** The response to the first request, as far as it is known when its run ends. */
export interface FirstResponse {
  readonly status: number;
  /** The response, where it is whole and was recorded. */
  readonly response: WireResponse | undefined;
  /** The reason why there is none to replay. */
  readonly reason: TombstoneReason;
  /**
   * True if the handler sent it by itself. False if Nest, a filter or an interceptor made it from
   * the handler's result.
   */
  readonly byHandler: boolean;
  /** True if it had ended before the handler settled. */
  readonly isEarly: boolean;
}

/**
 * A run that is over: its handler has settled, and its response has ended or is not to be expected.
 */
export interface RunOver {
  /** The error with which the handler rejected. */
  readonly failure: { readonly error: unknown } | undefined;
  /** The status that the handler left on the response when it resolved. */
  readonly statusWhenResolved: number;
  /** The response; undefined where there was none, or another's was sent while the handler ran. */
  readonly answer: FirstResponse | undefined;
  /** The reason why there is none. */
  readonly reason: TombstoneReason;
}

export interface RunPolicies {
  readonly onError: OnErrorOption | undefined;
  readonly onResponse: OnResponse | undefined;
}

/** The end of a run's record. */
export type Ending =
  | { readonly kind: 'release' }
  | { readonly kind: 'keep-response'; readonly response: WireResponse }
  | { readonly kind: 'keep-error'; readonly error: unknown }
  /** Done, without an answer to replay. */
  | { readonly kind: 'done'; readonly reason: TombstoneReason };

/** Statuses that ask the client to try again, as every status from 500 on does. */
const TRANSIENT: ReadonlySet<number> = new Set([408, 412, 425, 429]);

/** Statuses whose response fits one request only. */
const REQUEST_SPECIFIC: ReadonlySet<number> = new Set([206, 304, 412]);

const RELEASE: Ending = { kind: 'release' };

/**
 * Decides how the run of a route ends. The first rule that fits decides; docs/idempotency.md has
 * them as a table.
 *
 * 1. The outcome is unknown: the key is held.
 * 2. `onError` (the handler rejected) or `onResponse` (it answered) is given: as it says.
 * 3. The handler rejected after its own complete 2xx or 3xx was sent: that is kept.
 * 4. The handler rejected, or sent an error by itself: the status on the wire decides.
 * 5. The handler resolved: the key is done; its response is kept where it is complete.
 */
export function endingOf(run: RunOver, policies: RunPolicies): Ending {
  return run.failure ? endOfFailure(run, run.failure.error, policies) : endOfSuccess(run, policies);
}

function endOfFailure({ answer, reason }: RunOver, error: unknown, { onError }: RunPolicies): Ending {
  if (isUnknown(error)) return done('outcome-unknown');
  const policy = chosenPolicy(onError, error);
  if (policy === 'release') return RELEASE;
  if (policy === 'hold') return done('outcome-unknown');
  if (policy === 'replay') {
    if (answer?.response) return keep(answer.response);
    // The client has not seen an error that came after the handler's own response.
    return answer?.isEarly ? done(answer.reason) : { kind: 'keep-error', error };
  }
  if (answer?.isEarly && answer.status < 400)
    return answer.response ? keep(answer.response) : done(answer.reason);
  if (error instanceof AtomicRedisError && error.retryable) return RELEASE;
  // A success that an interceptor or a filter made of the failure.
  if (answer?.response && answer.status < 400) return keep(answer.response);
  const status = answer && answer.status >= 400 ? answer.status : statusOf(error);
  if (isTransient(status)) return RELEASE;
  if (answer) return answer.response ? keep(answer.response) : done(answer.reason);
  return error instanceof HttpException ? { kind: 'keep-error', error } : done(reason);
}

function endOfSuccess(run: RunOver, { onResponse }: RunPolicies): Ending {
  const { answer, statusWhenResolved, reason } = run;
  if (!answer) return done(reason);
  const { status, response } = answer;
  const policy = response && onResponse && chosenByResponse(onResponse, response);
  if (policy === 'release') return RELEASE;
  if (policy === 'hold') return done('outcome-unknown');
  if (status === 412) return RELEASE;
  if (!policy && isTransient(status)) {
    const isOwn = answer.byHandler || status === statusWhenResolved;
    return isOwn ? RELEASE : done('response-failed');
  }
  return response ? keep(response) : done(answer.reason);
}

function chosenByResponse(onResponse: OnResponse, response: WireResponse): OnError | undefined {
  try {
    const { status, headers, body } = response;
    const chosen: unknown = onResponse({ status, headers: { ...headers }, body: Buffer.from(body) });
    if (chosen === 'replay' || chosen === 'release' || chosen === 'hold') return chosen;
    logger.error(`onResponse must return "replay", "release" or "hold", but returned ${describe(chosen)}`);
  } catch (failure) {
    logger.error('onResponse threw', failure);
  }
  return undefined;
}

/** Tells whether an error leaves open what the handler has done. */
export const isUnknown = (error: unknown): boolean =>
  error instanceof AtomicRedisError && error.outcome !== 'not-applied';

const isTransient = (status: number): boolean => status >= 500 || TRANSIENT.has(status);

/**
 * The status that Nest answers with. It takes errors of `http-errors` and their like by their
 * fields.
 */
function statusOf(error: unknown): number {
  if (error instanceof HttpException) return error.getStatus();
  const { statusCode, message } = (error ?? {}) as { statusCode?: unknown; message?: unknown };
  return typeof statusCode === 'number' && statusCode && message ? statusCode : 500;
}

/** A body in a coding that cannot be undone fits only clients that accept it. */
const keep = (response: WireResponse): Ending =>
  REQUEST_SPECIFIC.has(response.status) || !isDecodable(response)
    ? done('request-specific')
    : { kind: 'keep-response', response };

const done = (reason: TombstoneReason): Ending => ({ kind: 'done', reason });
