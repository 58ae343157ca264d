import type { SettledResponse } from './settled-response.js';
import type { ProbeFinding } from './steps/step.options.js';

/**
 * A run that a probe is asked about: its process died, or stood still for longer than its lease.
 */
export interface AbandonedRun {
  /** Counts this attempt too. */
  readonly attempt: number;
  /** Returns the key for a third party that every attempt had under the name. */
  keyFor(name: string): string;
  /** Aborts when the probe's time is over. */
  readonly signal: AbortSignal;
}

/** As `ProbeFinding`; `{ response }` answers the calls of a route. @inline */
export type AbandonedFinding = ProbeFinding | { readonly response: SettledResponse };

/** Finds out what an abandoned run has done, by asking a third party. @inline */
export type AbandonedProbe = (run: AbandonedRun) => Promise<AbandonedFinding> | AbandonedFinding;

/**
 * Fate of a key whose run died: `run` runs the work again, `hold` keeps the key for an operator,
 * and a probe asks what was done. @inline
 */
export type OnAbandoned = 'run' | 'hold' | AbandonedProbe;
