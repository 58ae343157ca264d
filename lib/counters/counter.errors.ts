import { AtomicRedisError, describe } from '../atomic-redis.errors.js';

/**
 * A counter is at a bound, and the decorated method or `run` is configured to reject then. The
 * method was not run.
 */
export class CounterLimitError extends AtomicRedisError {
  readonly code = 'COUNTER_LIMIT';
  readonly outcome = 'not-applied';
  readonly retryable = true;

  constructor(
    readonly key: string,
    /** The counter's value, left as it was; 0 for a counter that does not exist. */
    readonly current: number | bigint,
    /** The amount that should have been added. */
    readonly requested: number | bigint,
    /** The bound it would have crossed. */
    readonly bound: number | bigint,
  ) {
    const which = requested < 0 ? 'minimum' : 'maximum';
    super(`Counter ${describe(key)} is ${current}: adding ${requested} would cross its ${which} of ${bound}`);
  }
}

/** The result would not fit into a signed 64-bit integer. The counter was left as it was. */
export class CounterOverflowError extends AtomicRedisError {
  readonly code = 'COUNTER_OVERFLOW';
  readonly outcome = 'not-applied';
  readonly retryable = false;

  constructor(
    readonly key: string,
    readonly requested: number | bigint,
  ) {
    super(`Counter ${describe(key)} would leave the range of a signed 64-bit integer by adding ${requested}`);
  }
}
