import type { Redis } from 'ioredis';
import { LeaseLostError, OutcomeUnknownError, IllegalTransactionStateError } from '../atomic-redis.errors.js';
import type { CommitParticipant, QueuedCommand } from '../scripting/commit-participant.js';
import { Deadline } from '../runtime/deadline.js';
import { replyCode } from '../connection/reply-errors.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { IdempotentRun } from './idempotent-run.js';
import { isHeld, TICKS, type Lease, type LeaseKeeper } from './lease-keeper.js';
import type { RecordStore } from './record-store.js';
import { committedRecord, ownerOf } from './record-text.js';
import type { ResultCodec } from './result-codec.js';
import type { StepKeys } from './steps/step-keys.js';
import { storedValue, tombstone } from './stored-result.js';

/**
 * The least time by which the lease outlasts the transaction, in milliseconds: renewal begins again
 * after EXEC was answered.
 */
const MARGIN_MS = 1_000;

/** The part of a run that its commit needs. */
export interface CommittedRun {
  readonly run: IdempotentRun;
  readonly store: RecordStore;
  readonly lease: Lease;
  readonly ttlMs: number;
  readonly codec: ResultCodec;
  /** Of a run with steps, which end with it. */
  readonly companions: () => StepKeys | undefined;
}

/**
 * Lets a transaction inside a run write the run's record by its own EXEC: effects and record are one step, and a run that lost its
 * key writes neither. Once only: a second commit of the run would leave effects without a record of their own.
 */
export class RunCommit implements CommitParticipant {
  private committed = false;
  private renewalsAtBegin = 0;
  /** In the server's time, milliseconds: until then the run is taken to be alive, and its own answer is waited for. */
  private aliveUntil = 0;

  constructor(
    readonly connection: RedisConnection,
    private readonly leases: LeaseKeeper,
    private readonly committedRun: CommittedRun,
    private readonly maxResultBytes: number,
  ) {}

  /** The run itself, for the code inside. */
  get run(): IdempotentRun {
    return this.committedRun.run;
  }

  get key(): string {
    return this.committedRun.lease.record;
  }

  /** Prolongs the lease where it would end before the transaction may, and holds renewals back: each would touch the watched record and abort the run's own EXEC. */
  async begin(deadline: Deadline): Promise<void> {
    if (this.committed) throw committedBefore();
    const { lease } = this.committedRun;
    const inTime = <T>(step: Promise<T>): Promise<T> =>
      deadline.race(step, () => this.connection.unavailable());
    try {
      const isOwner = await inTime(
        this.leases.prolongAndPause(lease, deadline.at + MARGIN_MS + lease.leaseMs / TICKS),
      );
      if (!isOwner) throw new LeaseLostError('not-applied');
      this.renewalsAtBegin = lease.renewals;
      const slot = this.connection.keys.slotOf(this.key);
      this.aliveUntil = await inTime(this.connection.inServerTime(Deadline.in(lease.leaseMs), slot));
    } catch (error) {
      this.leases.resume(lease);
      // The renewal may have happened. The transaction was surely not applied.
      throw error instanceof OutcomeUnknownError ? this.connection.unavailable(error) : error;
    }
  }

  async verify(client: Redis): Promise<void> {
    const text = await client.get(this.key).catch((error: unknown) => {
      // A value of another type is no run's record.
      if (replyCode(error) === 'WRONGTYPE') return null;
      throw error;
    });
    const { state, token } = ownerOf(text);
    const isMine = token === this.committedRun.lease.token;
    if (state === 'committed' && isMine) throw committedBefore();
    if ((state !== 'running' && state !== 'lasting') || !isMine) throw new LeaseLostError('not-applied');
  }

  /** A retry after a crash gets this value; without one, the answer that the call is done and its result not available. */
  writes(value: unknown): readonly QueuedCommand[] {
    const { store, ttlMs, codec, lease } = this.committedRun;
    const result =
      value === undefined ? tombstone('not-kept') : storedValue(value, codec, this.maxResultBytes);
    const text = committedRecord(lease, store.seal(lease.record, result), this.aliveUntil);
    const writes = [{ name: 'set', args: [lease.record, text, 'PX', ttlMs] as unknown[] }];
    const keys = this.committedRun.companions();
    if (keys)
      writes.push({ name: 'unlink', args: [keys.steps] }, { name: 'zrem', args: [keys.index, keys.record] });
    return writes;
  }

  end(applied: boolean): { touched: boolean } {
    this.committed ||= applied;
    const { lease } = this.committedRun;
    // If the lease was lost meanwhile, the next attempt's begin reports it.
    const touched = lease.renewals !== this.renewalsAtBegin || !isHeld(lease);
    this.leases.resume(lease);
    return { touched };
  }
}

const committedBefore = (): IllegalTransactionStateError =>
  new IllegalTransactionStateError(
    'This idempotent run was committed by a transaction before; completesRun works once',
  );
