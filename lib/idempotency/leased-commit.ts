import type { Redis } from 'ioredis';
import { IllegalTransactionStateError, LeaseLostError, OutcomeUnknownError } from '../atomic-redis.errors.js';
import { nullIfWrongType } from '../connection/reply-errors.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { CommitHold } from '../leases/commit-hold.js';
import type { LeaseKeeper } from '../leases/lease-keeper.js';
import type { Deadline } from '../runtime/deadline.js';
import { TransactionWaiter } from '../scripting/begun-transactions.js';
import type { CommitParticipant, QueuedCommand } from '../scripting/commit-participant.js';
import { ownerOf } from './record-text.js';
import type { RunLease } from './run-lease.js';

/** Waits for a step no longer than a transaction has time. */
export type InTime = <T>(step: Promise<T>) => Promise<T>;

/**
 * A part of an idempotent run that a transaction's EXEC commits, as long as the run has its key.
 */
export abstract class LeasedCommit extends TransactionWaiter implements CommitParticipant {
  abstract readonly commits: 'run' | 'step';
  readonly colocation =
    'The last is the record of the idempotent run: put it there with colocateWith on @Idempotent() or IdempotencyService.run().';
  isAwaited = false;
  private hold: CommitHold<RunLease> | undefined;
  private isBusy = false;
  /** True once a transaction may have committed it, with an unknown outcome. */
  isUnknown = false;

  constructor(
    readonly connection: RedisConnection,
    private readonly leases: LeaseKeeper<RunLease>,
    protected readonly lease: RunLease,
  ) {
    super();
  }

  get keys(): readonly string[] {
    return [this.lease.record];
  }

  /** @throws IllegalTransactionStateError when it was committed before */
  protected abstract assertFresh(): void;

  /** Before WATCH, once the lease is sure to last. */
  protected abstract prepare(deadline: Deadline, inTime: InTime): Promise<void>;

  /**
   * Tells a state of the record in which the run may commit.
   * @throws IllegalTransactionStateError when it was committed before
   */
  protected abstract accepts(state: string | undefined): boolean;

  abstract writes(value: unknown): readonly QueuedCommand[];

  protected abstract applied(): void;

  async begin(deadline: Deadline): Promise<void> {
    this.assertFresh();
    if (this.isBusy)
      throw new IllegalTransactionStateError(
        `Another transaction is about to commit the same ${this.commits}; one commits it, once`,
      );
    this.isBusy = true;
    try {
      await this.beginAlone(deadline);
    } catch (error) {
      this.isBusy = false;
      throw error;
    }
  }

  async verify(client: Redis): Promise<void> {
    const text = await client.get(this.lease.record).catch(nullIfWrongType);
    const { state, token } = ownerOf(text);
    if (token !== this.lease.token || !this.accepts(state)) throw new LeaseLostError('not-applied');
  }

  end(applied: boolean, isUnknown: boolean): { touched: boolean } {
    this.isBusy = false;
    this.isUnknown ||= isUnknown;
    if (applied) this.applied();
    return this.hold!.end();
  }

  private async beginAlone(deadline: Deadline): Promise<void> {
    const hold = new CommitHold(this.connection, this.leases, this.lease);
    await hold.begin(deadline);
    try {
      await this.prepare(deadline, (step) => deadline.race(step, () => this.connection.unavailable()));
      this.hold = hold;
    } catch (error) {
      hold.end();
      // The preparation may have happened. The transaction was surely not applied.
      throw error instanceof OutcomeUnknownError ? this.connection.unavailable(error) : error;
    }
  }
}
