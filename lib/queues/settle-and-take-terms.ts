import type { Delivery, Verdict } from './delivery.js';

/** The ways to end a delivery. */
export interface Settlement {
  readonly verdict: Verdict;
  readonly delivery: Pick<Delivery, 'id' | 'fence'>;
  /** Why it failed. */
  readonly failure?: string | undefined;
  /** After how many milliseconds the job may be taken again. Default: at once. */
  readonly delayMs?: number | undefined;
  /** It may leave with other ends of the same round of the event loop. */
  readonly mayWait?: boolean | undefined;
}

/** The end of a delivery, without the delivery. */
export type End = Omit<Settlement, 'delivery'>;

/** The terms on which jobs are given out. */
export interface SettleAndTakeTerms {
  readonly leaseMs: number;
  readonly maxDeliveries: number;
}
