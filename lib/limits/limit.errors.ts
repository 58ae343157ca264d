import { AtomicRedisError, describe } from '../atomic-redis.errors.js';

/** A call costs more than its limit ever lets through at once, so no wait would help. Thrown before any I/O. */
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
