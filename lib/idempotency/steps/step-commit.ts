import { IllegalTransactionStateError } from '../../atomic-redis.errors.js';
import type { QueuedCommand } from '../../scripting/commit-participant.js';
import { Deadline } from '../../runtime/deadline.js';
import { LeasedCommit, type InTime } from '../leased-commit.js';
import type { StepLog } from './step-log.js';
import type { StepOptions } from './step.options.js';
import { doneEntry, type SealedResult } from './step-store.js';

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
    private readonly log: StepLog,
    private readonly name: string,
    private readonly options: Pick<StepOptions, 'codec' | 'ttlMs'>,
  ) {
    super(log.connection, log.run.leases, log.run.lease);
  }

  writes(value: unknown): readonly QueuedCommand[] {
    const { name, log } = this;
    const { keys, keepMs } = log.run;
    this.writing = log.sealed(name, value, this.options.codec);
    return [
      { name: 'hset', args: [keys.steps, name, doneEntry(this.writing.sealed, this.countsUntil)] },
      { name: 'pexpire', args: [keys.steps, keepMs] },
    ];
  }

  protected assertFresh(): void {
    if (this.kept) throw committedBefore(this.name);
    if (!this.isAwaited) throw hasEnded(this.name);
    if (this.isUnknown) throw mayBeCommitted(this.name);
  }

  protected async prepare(_deadline: Deadline, inTime: InTime): Promise<void> {
    if (!this.log.hasOpened) await inTime(this.log.begin(this.name));
    const { ttlMs } = this.options;
    if (ttlMs === undefined) return;
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
    `A transaction may have committed the step ${JSON.stringify(name)}, and its outcome is unknown; let the step fail, and run it again`,
  );
