import * as check from '../atomic-redis.validation.js';
import type { HoldReason } from './idempotency.errors.js';
import type { StepSummary } from './record-summary.js';

/** Options of `IdempotencyService.held`. @inline */
export interface HeldOptions {
  /** Only the keys of this operation. Default: of all. */
  operation?: string;
  /** Keys that a page looks at, at the most; it may show fewer. From 1 to 1,000. @default 100 */
  limit?: number;
  /** The `cursor` of the page before. Default: begins with the first page. */
  cursor?: string;
}

/** A key that waits for an operator, or for a call that continues its work. */
export interface HeldKey {
  /** Its id, for `inspect`, `settle` and `forget`. */
  readonly record: string;
  readonly operation: string;
  /**
   * - `held`: the outcome of its run is unknown, and no call runs
   * - `interrupted`: its run died or failed midway, and no call has continued it yet
   */
  readonly state: 'held' | 'interrupted';
  /** Why it is held. */
  readonly reason?: HoldReason;
  /** The number of attempts so far. */
  readonly attempt: number;
  readonly steps: readonly StepSummary[];
}

/** A page of keys that wait. */
export interface HeldKeys {
  /** The keys of the page; in each slot the oldest first. */
  readonly keys: readonly HeldKey[];
  /** For the next page; absent when there is none. */
  readonly cursor?: string;
}

export const checkHeldOptions = check.options({
  operation: check.nonEmptyString,
  limit: check.integer(1, 1_000),
  cursor: check.nonEmptyString,
} satisfies Record<keyof HeldOptions, check.Check>);
