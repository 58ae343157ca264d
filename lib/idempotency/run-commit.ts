import { IllegalTransactionStateError } from '../atomic-redis.errors.js';
import type { QueuedCommand } from '../scripting/commit-participant.js';
import { Deadline } from '../runtime/deadline.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { LeaseKeeper } from '../leases/lease-keeper.js';
import type { ClaimRequest } from './claim-request.js';
import type { IdempotentRun } from './idempotent-run.js';
import { LeasedCommit, type InTime } from './leased-commit.js';
import type { RecordStore } from './record-store.js';
import { committedRecord } from './record-text.js';
import { keptMsOf, type RunLease } from './run-lease.js';
import type { StepKeys } from './steps/step-keys.js';
import { storedValue, tombstone } from './stored-result.js';

/** The part of a run that its commit needs. */
export interface CommittedRun {
  readonly run: IdempotentRun;
  readonly store: RecordStore;
  readonly lease: RunLease;
  readonly request: ClaimRequest;
  /** Returns the keys of a run with steps, which end with it. */
  readonly companions: () => StepKeys | undefined;
}

/**
 * Lets a transaction inside a run write the run's record by its own EXEC: effects and record are
 * one step, and a run that lost its key writes neither. Once only: a second commit of the run would
 * leave effects without a record of their own.
 */
export class RunCommit extends LeasedCommit {
  readonly commits = 'run';
  committed = false;
  /**
   * In the server's time, milliseconds: until then the run is taken to be alive, and its own answer
   * is waited for.
   */
  private aliveUntil = 0;

  constructor(
    connection: RedisConnection,
    leases: LeaseKeeper<RunLease>,
    private readonly committedRun: CommittedRun,
    private readonly maxResultBytes: number,
  ) {
    super(connection, leases, committedRun.lease);
  }

  /** The run itself, for the code inside. */
  get run(): IdempotentRun {
    return this.committedRun.run;
  }

  /**
   * A retry after a crash gets this value; without one, the answer that the call is done and its
   * result not available.
   */
  writes(value: unknown): readonly QueuedCommand[] {
    const { store, request, lease } = this.committedRun;
    const result =
      value === undefined ? tombstone('not-kept') : storedValue(value, request.codec, this.maxResultBytes);
    const text = committedRecord(lease, store.seal(lease.record, result), this.aliveUntil);
    const keys = this.committedRun.companions();
    const keptMs = keys ? keptMsOf(request) : request.ttlMs;
    const writes = [{ name: 'set', args: [lease.record, text, 'PX', keptMs] as unknown[] }];
    if (!keys) return writes;
    // As the scripts name it there; the client puts its prefix in front of keys only.
    const member = this.connection.keys.keyPrefix + keys.record;
    writes.push({ name: 'unlink', args: [keys.steps] }, { name: 'zrem', args: [keys.index, member] });
    return writes;
  }

  protected assertFresh(): void {
    if (this.committed) throw committedBefore();
  }

  protected async prepare(_deadline: Deadline, inTime: InTime): Promise<void> {
    const slot = this.connection.keys.slotOf(this.lease.record);
    this.aliveUntil = await inTime(this.connection.inServerTime(Deadline.in(this.lease.leaseMs), slot));
  }

  protected accepts(state: string | undefined): boolean {
    if (state === 'committed') throw committedBefore();
    return state === 'running' || state === 'lasting';
  }

  protected applied(): void {
    this.committed = true;
  }
}

const committedBefore = (): IllegalTransactionStateError =>
  new IllegalTransactionStateError(
    'This idempotent run was committed by a transaction before; completesRun works once',
  );
