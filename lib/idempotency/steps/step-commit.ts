import { IllegalTransactionStateError } from '../../atomic-redis.errors.js';
import { withParticipant, type QueuedCommand } from '../../scripting/commit-participant.js';
import { Deadline } from '../../runtime/deadline.js';
import type { RedisConnection } from '../../connection/redis-connection.js';
import type { LeaseKeeper } from '../../leases/lease-keeper.js';
import type { RunLease } from '../run-lease.js';
import { LeasedCommit, type InTime } from '../leased-commit.js';
import type { StoredResult } from '../stored-result.js';
import type { StepKeys } from './step-keys.js';
import { doneEntry } from './step-store.js';

/** The result of a step, and what is stored of it. */
export interface SealedResult {
  readonly result: StoredResult;
  readonly sealed: StoredResult;
}

/** The part of a step that its commit needs. */
export interface CommittedStep {
  readonly name: string;
  readonly keys: StepKeys;
  /** The time to live of the steps, in milliseconds. */
  readonly keepMs: number;
  /** For how long the result counts, in milliseconds; 0 for always. */
  readonly ttlMs: number;
  /** Makes the record one with steps, where it is none yet. */
  open(): Promise<void>;
  /** Makes of a value what is kept, and what is stored of that. */
  seal(value: unknown): SealedResult;
}

/**
 * Lets a transaction inside a step keep the step's result by its own EXEC: effects and result are
 * one step, and a run that lost its key writes neither.
 */
export class StepCommit extends LeasedCommit {
  readonly commits = 'step';
  /** The result that was committed. */
  kept: SealedResult | undefined;
  private writing: SealedResult | undefined;
  private countsUntil = 0;

  constructor(
    connection: RedisConnection,
    leases: LeaseKeeper<RunLease>,
    lease: RunLease,
    private readonly step: CommittedStep,
  ) {
    super(connection, leases, lease);
  }

  /**
   * Runs the step's work, and the transactions that it has begun and not awaited. None may begin
   * after that, or the step's result would stand without its effects.
   */
  async within<T>(work: () => Promise<T> | T): Promise<T> {
    this.isAwaited = true;
    try {
      const value = await withParticipant(this, work);
      if (this.isAnyLeft) await this.untilOver();
      return value;
    } catch (error) {
      // The work's own error is the one that counts.
      if (this.isAnyLeft) await this.untilOver().catch(() => undefined);
      throw error;
    } finally {
      this.isAwaited = false;
    }
  }

  writes(value: unknown): readonly QueuedCommand[] {
    const { name, keys, keepMs } = this.step;
    this.writing = this.step.seal(value);
    return [
      { name: 'hset', args: [keys.steps, name, doneEntry(this.writing.sealed, this.countsUntil)] },
      { name: 'pexpire', args: [keys.steps, keepMs] },
    ];
  }

  protected assertFresh(): void {
    if (this.kept) throw committedBefore(this.step.name);
    if (!this.isAwaited) throw hasEnded(this.step.name);
    if (this.isUnknown) throw mayBeCommitted(this.step.name);
  }

  protected async prepare(_deadline: Deadline, inTime: InTime): Promise<void> {
    const { ttlMs } = this.step;
    await inTime(this.step.open());
    if (ttlMs === 0) return;
    const slot = this.connection.keys.slotOf(this.lease.record);
    this.countsUntil = await inTime(this.connection.inServerTime(Deadline.in(ttlMs), slot));
  }

  protected accepts(state: string | undefined): boolean {
    return state === 'lasting';
  }

  protected applied(): void {
    this.kept = this.writing;
  }
}

const committedBefore = (name: string): IllegalTransactionStateError =>
  new IllegalTransactionStateError(
    `The step ${JSON.stringify(name)} was committed by a transaction before; completesStep works once in each step`,
  );

const hasEnded = (name: string): IllegalTransactionStateError =>
  new IllegalTransactionStateError(
    `The step ${JSON.stringify(name)} has ended, so that no transaction commits it any more; begin the transaction inside its work`,
  );

const mayBeCommitted = (name: string): IllegalTransactionStateError =>
  new IllegalTransactionStateError(
    `A transaction may have committed the step ${JSON.stringify(name)}, and its outcome is not known; let the step fail, and ask for it again`,
  );
