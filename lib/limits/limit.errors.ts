import { AtomicRedisError, describe } from '../atomic-redis.errors.js';
import type { LimitPolicy } from '../problem-details/rate-limit-fields.js';

/**
 * A call costs more than its limit ever lets through at once, so no wait would help. Thrown before
 * any I/O.
 */
export class LimitCostError extends AtomicRedisError {
  readonly code = 'LIMIT_COST';
  readonly outcome = 'not-applied';
  readonly retryable = false;

  constructor(
    readonly key: string,
    readonly cost: number,
    /** Most that can be taken at once: `burst`, or else `limit`. */
    readonly most: number,
  ) {
    super(`Limit ${describe(key)} lets through at most ${most} at once, and the call costs ${cost}`);
  }
}

/** A limit of `@RateLimit` refused the call. The method was not run, and nothing was taken. */
export class LimitExceededError extends AtomicRedisError {
  readonly code = 'LIMIT_EXCEEDED';
  readonly outcome = 'not-applied';
  readonly retryable = true;

  constructor(
    /** When the same call would be let through if nothing else were taken, in milliseconds. */
    readonly retryAfterMs: number,
    /** The limits of the call, in the order of the decorator. */
    readonly policies: readonly LimitPolicy[],
  ) {
    super(`Limits refuse the call for ${retryAfterMs} ms`);
  }
}
