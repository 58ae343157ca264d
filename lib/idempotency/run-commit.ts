import type { Redis } from 'ioredis';
import { LeaseLostError, IllegalTransactionStateError } from '../atomic-redis.errors.js';
import type { CommitParticipant, QueuedCommand } from '../scripting/commit-participant.js';
import { Deadline } from '../runtime/deadline.js';
import { replyCode } from '../connection/reply-errors.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { CommitHold } from '../leases/commit-hold.js';
import type { LeaseKeeper } from '../leases/lease-keeper.js';
import type { RecordStore } from './record-store.js';
import { committedRecord, ownerOf } from './record-text.js';
import type { ResultCodec } from './result-codec.js';
import type { RunLease } from './run-lease.js';
import { storedValue, tombstone } from './stored-result.js';

/** The part of a run that its commit needs. */
export interface CommittedRun {
  readonly store: RecordStore;
  readonly lease: RunLease;
  readonly ttlMs: number;
  readonly codec: ResultCodec;
}

/**
 * Lets a transaction inside a run write the run's record by its own EXEC: effects and record are one step, and a run that lost its
 * key writes neither. Once only: a second commit of the run would leave effects without a record of their own.
 */
export class RunCommit implements CommitParticipant {
  readonly colocation =
    'The last is the record of the idempotent run: put it there with colocateWith on @Idempotent() or IdempotencyService.run().';
  private committed = false;
  private hold: CommitHold<RunLease> | undefined;
  /** In the server's time, milliseconds: until then the run is taken to be alive, and its own answer is waited for. */
  private aliveUntil = 0;

  constructor(
    readonly connection: RedisConnection,
    private readonly leases: LeaseKeeper<RunLease>,
    private readonly run: CommittedRun,
    private readonly maxResultBytes: number,
  ) {}

  get keys(): readonly string[] {
    return [this.run.lease.record];
  }

  async begin(deadline: Deadline): Promise<void> {
    if (this.committed) throw committedBefore();
    const { connection } = this;
    const { lease } = this.run;
    const hold = new CommitHold(connection, this.leases, lease);
    await hold.begin(deadline);
    try {
      const slot = connection.keys.slotOf(lease.record);
      const aliveUntil = connection.inServerTime(Deadline.in(lease.leaseMs), slot);
      this.aliveUntil = await deadline.race(aliveUntil, () => connection.unavailable());
      this.hold = hold;
    } catch (error) {
      hold.end();
      throw error;
    }
  }

  async verify(client: Redis): Promise<void> {
    const text = await client.get(this.run.lease.record).catch((error: unknown) => {
      // A value of another type is no run's record.
      if (replyCode(error) === 'WRONGTYPE') return null;
      throw error;
    });
    const { state, token } = ownerOf(text);
    const isMine = token === this.run.lease.token;
    if (state === 'committed' && isMine) throw committedBefore();
    if (state !== 'running' || !isMine) throw new LeaseLostError('not-applied');
  }

  /** A retry after a crash gets this value; without one, the answer that the call is done and its result not available. */
  writes(value: unknown): readonly QueuedCommand[] {
    const { store, ttlMs, codec, lease } = this.run;
    const result =
      value === undefined ? tombstone('not-kept') : storedValue(value, codec, this.maxResultBytes);
    const text = committedRecord(lease, store.seal(lease.record, result), this.aliveUntil);
    return [{ name: 'set', args: [lease.record, text, 'PX', ttlMs] }];
  }

  end(applied: boolean): { touched: boolean } {
    this.committed ||= applied;
    return this.hold!.end();
  }
}

const committedBefore = (): IllegalTransactionStateError =>
  new IllegalTransactionStateError(
    'This idempotent run was committed by a transaction before; completesRun works once',
  );
