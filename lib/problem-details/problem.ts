import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import type { AtomicRedisError } from '../atomic-redis.errors.js';

/** The page of errors in this package's documentation, as published. */
export const ERRORS_PAGE = 'https://unpkg.com/nestjs-atomic-redis/docs/errors.md';

/** Problem details as RFC 9457 has them, with this library's `code`, `outcome` and `retryable` beside. */
export interface Problem {
  /** A URL of the errors page with the code as its fragment, or `about:blank`. */
  readonly type: string;
  /** Names this one occurrence: a random URN, which the log has too. */
  readonly instance: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly outcome: string;
  readonly retryable: boolean;
  /** Of a key whose call is over without an answer: its record's id, for `IdempotencyService.inspect` and `forget`. */
  readonly record?: string;
}

/** What a client can act on keeps its message; anything else is a fault of the server, whose message is for the log. */
const STATUS: Readonly<Record<string, number>> = {
  IDEMPOTENCY_KEY_MISSING: 400,
  IDEMPOTENCY_KEY_INVALID: 400,
  TRANSACTION_CONFLICT: 409,
  IDEMPOTENCY_IN_FLIGHT: 409,
  IDEMPOTENCY_RESULT_UNAVAILABLE: 409,
  COUNTER_LIMIT: 409,
  INSUFFICIENT_FUNDS: 409,
  IDEMPOTENCY_MISMATCH: 422,
  IDEMPOTENCY_CALLER_MISMATCH: 422,
  IDEMPOTENCY_CALLER_UNKNOWN: 403,
  REDIS_UNAVAILABLE: 503,
  OUTCOME_UNKNOWN: 503,
  TRANSFER_PENDING: 503,
  IDEMPOTENCY_OUTCOME_UNKNOWN: 503,
  TRANSACTION_TIMEOUT: 503,
  MODULE_CLOSED: 503,
  SHADOW_LOST: 503,
  LEASE_LOST: 503,
  STEP_INTERRUPTED: 503,
  PROBE_FAILED: 503,
};

/** For errors whose message names keys or values in Redis, which are no business of an HTTP client. */
const DETAIL_OF_CODE: Readonly<Record<string, string>> = {
  TRANSACTION_CONFLICT: 'Others keep changing what this request is to change',
  COUNTER_LIMIT: 'A limit has been reached',
  INSUFFICIENT_FUNDS: 'The balance is too low',
  TRANSFER_PENDING: 'The transfer may be under way, and is then completed or returned later',
};

const DETAIL_OF_STATUS: Readonly<Record<number, string>> = {
  500: 'The request could not be processed',
  503: 'The service cannot complete the request at the moment',
};

/** @param base of `type`: a URL without a fragment, or `about:blank` */
export function problemDetails(error: AtomicRedisError, base: string = ERRORS_PAGE): Problem {
  return {
    type: base === 'about:blank' ? base : `${base}#${error.code}`,
    ...problemOf(error).problem,
    instance: `urn:uuid:${randomUUID()}`,
  };
}

export function problemOf(error: AtomicRedisError & { retryAfterMs?: number; record?: string }): {
  problem: Omit<Problem, 'type' | 'instance'>;
  /** When the call may be repeated, where that is known or as good as. */
  retryAfterMs?: number;
} {
  const refusedForNow = error.code === 'REDIS_REPLY' && error.retryable && error.outcome === 'not-applied';
  const status = refusedForNow ? 503 : (STATUS[error.code] ?? 500);
  const problem = {
    title: STATUS_CODES[status] ?? 'Error',
    status,
    detail: DETAIL_OF_CODE[error.code] ?? DETAIL_OF_STATUS[status] ?? error.message,
    code: error.code,
    outcome: error.outcome,
    retryable: error.retryable,
    ...(error.record !== undefined && { record: error.record }),
  };
  // Generic clients take Retry-After for leave to send the request again.
  const retryAfterMs = error.retryAfterMs ?? (status === 503 && error.retryable ? 1_000 : undefined);
  return retryAfterMs === undefined ? { problem } : { problem, retryAfterMs };
}

/** The same for transports without problem details, in the form in which Nest itself tells their clients of errors. */
export interface ErrorMessage {
  readonly status: 'error';
  readonly message: string;
  readonly code: string;
  readonly outcome: string;
  readonly retryable: boolean;
  readonly retryAfterMs?: number;
}

export function errorMessageOf(error: AtomicRedisError): ErrorMessage {
  const { problem, ...retryAfter } = problemOf(error);
  const { detail, code, outcome, retryable } = problem;
  return { status: 'error', message: detail, code, outcome, retryable, ...retryAfter };
}
