import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import type { AtomicRedisError } from '../atomic-redis.errors.js';

/** The page of errors in this package's documentation, as published. */
export const ERRORS_PAGE = 'https://unpkg.com/nestjs-atomic-redis/docs/errors.md';

/** Problem details of RFC 9457, with this library's `code`, `outcome` and `retryable`. */
export interface Problem {
  /** A URL of the errors page with the code as its fragment, or `about:blank`. */
  readonly type: string;
  /** A random URN that names this one occurrence. The log has it too. */
  readonly instance: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly outcome: string;
  readonly retryable: boolean;
  /**
   * The id of the record of a key whose call is over without a result, for
   * `IdempotencyService.inspect` and `forget`.
   */
  readonly record?: string;
}

/**
 * Errors that a client can act on keep their message. Any other is a fault of the server, and its
 * message goes to the log only.
 */
const STATUS: Readonly<Record<string, number>> = {
  IDEMPOTENCY_KEY_MISSING: 400,
  IDEMPOTENCY_KEY_INVALID: 400,
  TRANSACTION_CONFLICT: 409,
  IDEMPOTENCY_IN_FLIGHT: 409,
  IDEMPOTENCY_RESULT_UNAVAILABLE: 409,
  COUNTER_LIMIT: 409,
  PERMIT_UNAVAILABLE: 409,
  LIMIT_EXCEEDED: 429,
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

/**
 * Messages in place of those that name keys or values in Redis, which an HTTP client must not see.
 */
const DETAIL_OF_CODE: Readonly<Record<string, string>> = {
  TRANSACTION_CONFLICT: 'Concurrent requests keep changing the same data',
  COUNTER_LIMIT: 'A limit has been reached',
  PERMIT_UNAVAILABLE: 'Another request holds the permit that this one needs',
  LIMIT_EXCEEDED: 'Too many requests: wait before the next one',
  INSUFFICIENT_FUNDS: 'The balance is too low',
  TRANSFER_PENDING: 'The transfer may be under way, and is then completed or returned later',
};

const DETAIL_OF_STATUS: Readonly<Record<number, string>> = {
  500: 'The request could not be processed',
  503: 'The service cannot complete the request at the moment',
};

/** @param base the beginning of `type`: a URL without a fragment, or `about:blank` */
export function problemDetails(error: AtomicRedisError, base: string = ERRORS_PAGE): Problem {
  return {
    type: base === 'about:blank' ? base : `${base}#${error.code}`,
    ...problemOf(error).problem,
    instance: `urn:uuid:${randomUUID()}`,
  };
}

export function problemOf(error: AtomicRedisError & { retryAfterMs?: number; record?: string }): {
  problem: Omit<Problem, 'type' | 'instance'>;
  /** The time after which the call may be repeated, if it is known well enough. */
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
  // Generic clients take Retry-After as permission to send the request again.
  const retryAfterMs = error.retryAfterMs ?? (status === 503 && error.retryable ? 1_000 : undefined);
  return retryAfterMs === undefined ? { problem } : { problem, retryAfterMs };
}

/** Makes the same for transports without problem details, in the form of Nest's own errors. */
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
