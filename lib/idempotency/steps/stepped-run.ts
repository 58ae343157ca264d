import type { LeaseKeeper } from '../../leases/lease-keeper.js';
import type { ClaimRequest } from '../claim-request.js';
import type { IdempotentRun } from '../idempotent-run.js';
import type { RunLease } from '../run-lease.js';
import type { RunTrace } from '../run-trace.js';
import type { StepKeys } from './step-keys.js';

/** The bounds of the steps of one run. */
export interface StepLimits {
  readonly maxSteps: number;
  readonly maxStepBytes: number;
  readonly probeTimeoutMs: number;
}

/** A run as its steps see it. */
export interface SteppedRun {
  readonly run: IdempotentRun;
  readonly lease: RunLease;
  readonly leases: LeaseKeeper<RunLease>;
  readonly request: ClaimRequest;
  readonly keys: StepKeys;
  /** As the record has it once there is a step. */
  readonly trace: RunTrace;
  /** The time to live of the steps, in milliseconds. */
  readonly keepMs: number;
  /** True if predecessors had steps. */
  readonly goesOn: boolean;
  hasEnded(): boolean;
  /** Redis says that the run has lost its key. */
  loseKey(): void;
}
