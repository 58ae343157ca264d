import type { Redis } from 'ioredis';
import { LeaseLostError, OutcomeUnknownError } from '../atomic-redis.errors.js';
import type { CommitParticipant, QueuedCommand } from '../scripting/commit-participant.js';
import type { Deadline } from '../runtime/deadline.js';
import { replyCode } from '../connection/reply-errors.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { isHeld, TICKS, type Lease, type LeaseKeeper } from './lease-keeper.js';
import { ownerOf } from './record-text.js';

/**
 * The least time by which the lease outlasts the transaction, in milliseconds: renewal begins again
 * after EXEC was answered.
 */
const MARGIN_MS = 1_000;

/** Waits for a step no longer than a transaction has time. */
export type InTime = <T>(step: Promise<T>) => Promise<T>;

/** A part of an idempotent run that a transaction's EXEC commits, as long as the run has its key. */
export abstract class LeasedCommit implements CommitParticipant {
  abstract readonly commits: 'run' | 'step';
  private renewalsAtBegin = 0;

  constructor(
    readonly connection: RedisConnection,
    private readonly leases: LeaseKeeper,
    protected readonly lease: Lease,
  ) {}

  get key(): string {
    return this.lease.record;
  }

  /** @throws IllegalTransactionStateError when it was committed before */
  protected abstract assertFresh(): void;

  /** Before WATCH, once the lease is sure to last. */
  protected abstract prepare(deadline: Deadline, inTime: InTime): Promise<void>;

  /** Tells a state of the record in which the run may commit. @throws IllegalTransactionStateError when it was committed before */
  protected abstract accepts(state: string | undefined): boolean;

  abstract writes(value: unknown): readonly QueuedCommand[];

  protected abstract applied(): void;

  /** Prolongs the lease where it would end before the transaction may, and holds renewals back: each would touch the watched record and abort the run's own EXEC. */
  async begin(deadline: Deadline): Promise<void> {
    this.assertFresh();
    const { lease } = this;
    const inTime: InTime = (step) => deadline.race(step, () => this.connection.unavailable());
    try {
      const isOwner = await inTime(
        this.leases.prolongAndPause(lease, deadline.at + MARGIN_MS + lease.leaseMs / TICKS),
      );
      if (!isOwner) throw new LeaseLostError('not-applied');
      this.renewalsAtBegin = lease.renewals;
      await this.prepare(deadline, inTime);
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
    if (token !== this.lease.token || !this.accepts(state)) throw new LeaseLostError('not-applied');
  }

  end(applied: boolean): { touched: boolean } {
    if (applied) this.applied();
    const { lease } = this;
    // If the lease was lost meanwhile, the next attempt's begin reports it.
    const touched = lease.renewals !== this.renewalsAtBegin || !isHeld(lease);
    this.leases.resume(lease);
    return { touched };
  }
}
