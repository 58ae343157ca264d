import type { Redis } from 'ioredis';
import { TransactionMisuseError } from '../atomic-redis.errors.js';
import type { CommitParticipant, QueuedCommand } from '../redis/commit-participant.js';
import type { Deadline } from '../redis/deadline.js';
import type { RedisConnection } from '../redis/redis-connection.js';
import { LeaseLostError } from './idempotency.errors.js';
import type { Lease, LeaseKeeper } from './lease-keeper.js';
import { storedValue, tombstone } from './stored-result.js';

/** What of a run its commit needs. */
export interface CommittedRun {
  readonly record: string;
  readonly token: string;
  readonly fingerprint: string;
  readonly ttlMs: number;
  readonly lease: Lease;
}

/**
 * Lets a transaction inside a run write the run's record by its own EXEC: effects and record are one step, and a run that lost its
 * key writes neither. Once only: a second commit of the run would leave effects without a record of their own.
 */
export class RunCommit implements CommitParticipant {
  private committed = false;
  private renewalsAtBegin = 0;

  constructor(
    readonly connection: RedisConnection,
    private readonly leases: LeaseKeeper,
    private readonly run: CommittedRun,
    private readonly maxResultBytes: number,
  ) {}

  get key(): string {
    return this.run.record;
  }

  /** Renews the lease and holds further renewals back: each would touch the watched record and abort the run's own EXEC. */
  async begin(deadline: Deadline): Promise<void> {
    if (this.committed) throw committedBefore();
    const isOwner = await deadline.race(this.leases.renewAndPause(this.run.lease), () =>
      this.connection.unavailable(),
    );
    if (!isOwner) throw new LeaseLostError();
    this.renewalsAtBegin = this.leases.renewalsOf(this.run.lease);
  }

  async verify(client: Redis): Promise<void> {
    const [state, token] = await client.hmget(this.run.record, 's', 't');
    if (state === 'committed' && token === this.run.token) throw committedBefore();
    if (state !== 'running' || token !== this.run.token) throw new LeaseLostError();
  }

  /** A retry after a crash gets this value; without one, the answer that the call is done and its result not available. */
  writes(value: unknown): readonly QueuedCommand[] {
    const { record, token, fingerprint, ttlMs } = this.run;
    const { kind, bytes } =
      value === undefined ? tombstone('not-kept') : storedValue(value, this.maxResultBytes);
    const fields = ['v', '1', 's', 'committed', 't', token, 'f', fingerprint, 'k', kind, 'r', bytes];
    return [
      { name: 'hset', args: [record, ...fields] },
      { name: 'pexpire', args: [record, ttlMs] },
    ];
  }

  end(applied: boolean): { touched: boolean } {
    this.committed ||= applied;
    const touched = this.leases.renewalsOf(this.run.lease) !== this.renewalsAtBegin;
    this.leases.resume(this.run.lease);
    return { touched };
  }
}

const committedBefore = (): TransactionMisuseError =>
  new TransactionMisuseError(
    'This idempotent run was committed by a transaction before; completesRun works once',
  );
