import type { Redis } from 'ioredis';
import { IllegalTransactionStateError, LeaseLostError, OutcomeUnknownError } from '../atomic-redis.errors.js';
import { nullIfWrongType } from '../connection/reply-errors.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { leaseEndFor } from '../leases/commit-hold.js';
import { lookMsOf } from '../leases/lease-keeper.js';
import type { Deadline } from '../runtime/deadline.js';
import { TransactionWaiter } from '../scripting/begun-transactions.js';
import type { CommitParticipant, QueuedCommand } from '../scripting/commit-participant.js';
import type { Delivery } from './delivery.js';
import type { QueueCommands } from './queue-commands.js';

/** A delivery that a transaction may end. */
export interface CommittedJob {
  readonly commands: QueueCommands;
  readonly delivery: Pick<Delivery, 'id' | 'fence'>;
  readonly leaseMs: number;
  /** Monotonic time at which the lease ends, as far as Redis has confirmed it. */
  readonly leaseEndsAt: number;
  /** True if the delivery was ended, is being ended, or may have been. */
  readonly hasEnded: boolean;
  /** True while a handler runs for it, which a consumer waits for. */
  readonly isHandled: boolean;
  /** True if the lease was lost, or the job given back. */
  readonly isAborted: boolean;
  /** The extensions under way. */
  readonly extending: Promise<unknown> | undefined;
  /** Prolongs the lease. Resolves with false when it was lost. */
  prolong(ms: number, timeoutMs: number): Promise<boolean>;
  lose(): void;
  /** The transaction has acknowledged the job, or may have. */
  committed(unknown?: OutcomeUnknownError): void;
}

/**
 * Lets a transaction acknowledge a job by its own EXEC: the effects of the job and its end are one
 * step, and a delivery that lost its job has no effect.
 *
 * The queue's keys are not watched: any other job's end or extension would abort the EXEC. The
 * lease takes the place of that. It is prolonged past the transaction's deadline, and EXEC is
 * refused when the deadline key has expired, which is before the lease ends. Until then Redis gives
 * the job to no other consumer, and this process does not settle or extend it in another way.
 */
export class JobCommit extends TransactionWaiter implements CommitParticipant {
  readonly commits = 'job';
  readonly keys = [];
  readonly colocation =
    'The last is the queue of the job: give it a name with the hash tag of the keys, for example "{42}:emails".';
  /** Settles when the transaction is done with the job; undefined while none has it. */
  private attempt: { readonly ended: Promise<void>; readonly end: () => void } | undefined;
  private isSent = false;
  /** True if the lease ended too early by Redis's clock, whatever this process has counted. */
  private mustProlong = false;
  private isRevoked = false;

  constructor(private readonly job: CommittedJob) {
    super();
  }

  get isAwaited(): boolean {
    return this.job.isHandled;
  }

  get connection(): RedisConnection {
    return this.job.commands.connection;
  }

  /** A queue lies in the slot of its name. */
  get unwatchedKeys(): readonly string[] {
    return [this.job.commands.queue];
  }

  /** True while a transaction may end the delivery. */
  get isOpen(): boolean {
    return this.attempt !== undefined && !this.isRevoked;
  }

  /** Resolves when no transaction has the job. */
  async settled(): Promise<void> {
    await this.attempt?.ended;
  }

  /** Takes the right to commit back; an EXEC that was sent is waited for. */
  async revoke(): Promise<void> {
    this.isRevoked = true;
    if (this.isSent) await this.settled();
  }

  async begin(deadline: Deadline): Promise<void> {
    const { job } = this;
    if (this.attempt) throw this.illegal('is being completed by another transaction');
    if (this.isRevoked || job.isAborted) throw new LeaseLostError('not-applied');
    if (job.hasEnded) throw this.illegal('has ended');
    let end!: () => void;
    const ended = new Promise<void>((resolve) => (end = resolve));
    this.attempt = { ended, end };
    try {
      // Answered after EXEC, it would look like a lease that was lost.
      if (job.extending) await this.inTime(job.extending, deadline);
      const until = leaseEndFor(deadline, lookMsOf(job.leaseMs));
      if (this.mustProlong || job.leaseEndsAt < until) {
        if (!(await this.prolong(until, deadline))) {
          job.lose();
          throw new LeaseLostError('not-applied');
        }
        this.mustProlong = false;
      }
    } catch (error) {
      this.close();
      // The lease may have been prolonged. The transaction was surely not applied.
      throw error instanceof OutcomeUnknownError ? this.connection.unavailable(error) : error;
    }
  }

  /**
   * @returns false when the lease ends before the deadline key, by Redis's clock, which may have
   * been stepped
   */
  async verify(client: Redis, deadlineKey: string): Promise<void | false> {
    const { delivery, commands } = this.job;
    const { leases, history } = commands.keys;
    const [score, past, leftMs, [seconds, micros]] = await Promise.all([
      client.zscore(leases, delivery.id).catch(nullIfWrongType),
      client.hget(history, delivery.id).catch(nullIfWrongType),
      client.pttl(deadlineKey),
      // Behind PTTL: the sum is no earlier than the end of the deadline key.
      client.time(),
    ]);
    const deliveriesEnded = past === null ? '0' : /^\d+/.exec(past)?.[0];
    if (score === null || deliveriesEnded !== delivery.fence) throw new LeaseLostError('not-applied');
    const endsAt = Number(seconds) * 1_000 + Number(micros) / 1_000 + leftMs;
    const isLongEnough = leftMs > 0 && Math.floor(Number(score)) >= endsAt;
    this.mustProlong ||= !isLongEnough;
    if (!isLongEnough) return false;
  }

  writes(): readonly QueuedCommand[] {
    if (this.isRevoked) throw new LeaseLostError('not-applied');
    this.isSent = true;
    const { delivery, commands } = this.job;
    const { jobs, leases, history } = commands.keys;
    return [
      { name: 'hdel', args: [jobs, delivery.id] },
      { name: 'zrem', args: [leases, delivery.id] },
      { name: 'hdel', args: [history, delivery.id] },
    ];
  }

  end(applied: boolean, isUnknown: boolean): { touched: boolean } {
    if (applied) this.job.committed();
    else if (isUnknown)
      this.job.committed(
        new OutcomeUnknownError('A transaction was to acknowledge the job, and its outcome is unknown'),
      );
    this.close();
    return { touched: false };
  }

  private close(): void {
    this.isSent = false;
    this.attempt?.end();
    this.attempt = undefined;
  }

  private async prolong(until: number, deadline: Deadline): Promise<boolean> {
    const timeoutMs = Math.max(1, Math.ceil(deadline.remainingMs));
    const ms = Math.ceil(until - performance.now());
    return await this.inTime(this.job.prolong(ms, timeoutMs), deadline);
  }

  private inTime<T>(step: Promise<T>, deadline: Deadline): Promise<T> {
    return deadline.race(step, () => this.connection.unavailable());
  }

  private illegal(why: string): IllegalTransactionStateError {
    return new IllegalTransactionStateError(
      `completesJob: job ${this.job.delivery.id} ${why}; a transaction can complete a job once, while its delivery lasts`,
    );
  }
}
