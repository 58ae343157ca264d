import { OURS } from '../workload.js';

export const CONTENDERS = [OURS, 'node-redis, pool', 'redlock-universal'] as const;
export type ContenderName = (typeof CONTENDERS)[number];

/** The report of one process. */
export interface ContenderReport {
  readonly operations: number;
  readonly cpuUs: number;
  /** Attempts of each operation. */
  readonly attempts: readonly number[];
  readonly perCaller: readonly number[];
  readonly longestMs: number;
}
