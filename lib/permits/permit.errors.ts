import { AtomicRedisError, describe } from '../atomic-redis.errors.js';

/** Every permit of the name was held by others for as long as the call waited. */
export class PermitUnavailableError extends AtomicRedisError {
  readonly code = 'PERMIT_UNAVAILABLE';
  readonly outcome = 'not-applied';
  readonly retryable = true;

  constructor(
    /** The name of the permit. */
    readonly permit: string,
    /**
     * Time after which a permit is free at the latest, unless its holder renews it, in
     * milliseconds.
     */
    readonly retryAfterMs: number,
  ) {
    super(`Permit ${describe(permit)} is held by others; try again, or wait longer (waitMs)`);
  }
}
