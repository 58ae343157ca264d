import type { HoldReason } from './idempotency.errors.js';
import type { RunTrace } from './run-trace.js';

/** A step of a run, for those on duty. */
export interface StepSummary {
  readonly name: string;
  /**
   * - `done`: its result is kept
   * - `not-kept`: it was done, and its result could not be kept
   * - `begun`: it began, and what it did is not known
   */
  readonly state: 'done' | 'not-kept' | 'begun';
  /** The size of its result, in bytes. */
  readonly resultBytes: number;
}

/** The facts about a record that are known without reading its result. */
export interface RecordSummary {
  readonly state: 'running' | 'lasting' | 'failed' | 'committed' | 'done';
  readonly token: string;
  readonly kind: string;
  /** The reason for an unknown outcome of its run, if it is unknown. */
  readonly reason: HoldReason | undefined;
  readonly resultBytes: number;
  readonly ttlMs: number;
  /** The time for which the run of a committed or lasting record is taken to be alive. */
  readonly aliveMs: number;
  readonly trace: RunTrace | undefined;
  readonly steps: readonly StepSummary[];
}
