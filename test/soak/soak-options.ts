import type { FaultCount } from './faults.js';
import type { SoakHistory } from './reproduce.js';

export interface TransactionSoakOptions {
  /** Applied ones, at least. */
  transactions: number;
  /**
   * Smallest number of faults that must strike; without any, a healthy server must leave no outcome
   * unknown.
   */
  faults: number;
  /** Number of restarts of the server after kill -9. */
  restarts: number;
  seed: number;
  /** After this it ends, whatever was reached. */
  limitMs: number;
}

/** Reported beside the verdict. */
export interface TransactionSoakRun {
  readonly faults: readonly FaultCount[];
  readonly struck: number;
  readonly elapsedMs: number;
  readonly history: SoakHistory;
}
