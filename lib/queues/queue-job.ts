import * as check from '../atomic-redis.validation.js';
import { delayMsCheck } from './back-off.js';
import type { End } from './settle-and-take-terms.js';
import { Settled, Verdict, type Delivery } from './delivery.js';
import { JOB_PARTICIPANT, type CommitParticipant } from '../scripting/commit-participant.js';
import type { QueueCommands } from './queue-commands.js';
import {
  copyCallOptions,
  leaseMsCheck,
  NO_OPTIONS,
  queueCallOptionChecks,
  type QueueCallOptions,
} from './queue.options.js';

/** @inline */
export interface RetryOptions extends QueueCallOptions {
  /** The reason, for readers of the dead letters; cut after 500 characters. */
  reason?: string;
  /**
   * Time that the job waits before it is delivered again, in milliseconds; 0 for none. Default: by
   * the queue's `retry`.
   */
  delayMs?: number;
}

/** @inline */
export interface ExtendOptions extends QueueCallOptions {
  /**
   * From now, at the least, in milliseconds: an end that is later already stays. Default: the
   * queue's `leaseMs`.
   */
  leaseMs?: number;
}

/** One delivery, as its job's methods use it. */
export interface JobDelivery<T> {
  readonly delivery: Pick<Delivery, 'id' | 'deliveries'>;
  readonly payload: T;
  readonly signal: AbortSignal;
  readonly commands: Pick<QueueCommands, 'observe'>;
  /** Lets a transaction end the delivery. */
  readonly commit: CommitParticipant;
  failed(failure: string | undefined, delayMs: number | undefined): End;
  end(end: End, options: QueueCallOptions): Promise<Settled>;
  /** As `end`, and takes the next job in the same round trip. */
  endAndGiveNext(
    end: End,
    options: QueueCallOptions,
  ): Promise<{ readonly settled: Settled; readonly next: QueueJob<T> | null }>;
  extend(leaseMs: number | undefined, options: QueueCallOptions): Promise<boolean>;
}

const checkOptions = check.options(queueCallOptionChecks);
const checkRetryOptions = check.options({
  ...queueCallOptionChecks,
  reason: check.nonEmptyString,
  delayMs: delayMsCheck,
} satisfies Record<keyof RetryOptions, check.Check>);
const checkExtendOptions = check.options({
  ...queueCallOptionChecks,
  leaseMs: leaseMsCheck,
} satisfies Record<keyof ExtendOptions, check.Check>);

/**
 * A job that was taken from a queue, and one delivery of it: once its lease is lost, the job may be
 * delivered again, and what this object is asked to do has no effect.
 */
export class QueueJob<T = unknown> {
  /** As `push` answered it. The same in every delivery, so fit for an idempotency key. */
  readonly id: string;
  readonly payload: T;
  /**
   * Number of deliveries, this one included. It starts again when the job is requeued from the dead
   * letters.
   */
  readonly deliveries: number;

  /** @internal */
  constructor(private readonly taken: JobDelivery<T>) {
    ({ id: this.id, deliveries: this.deliveries } = taken.delivery);
    this.payload = taken.payload;
  }

  /** @internal */
  get [JOB_PARTICIPANT](): CommitParticipant {
    return this.taken.commit;
  }

  /** Aborts with a `LeaseLostError` as soon as it is known that the lease was lost. */
  get signal(): AbortSignal {
    return this.taken.signal;
  }

  /**
   * The job is done, and leaves the queue.
   *
   * @returns false when the lease had been lost: the job is delivered again, or was
   * @throws InvalidArgumentError, RedisUnavailableError, IllegalTransactionStateError; it may be
   * called again
   * @throws OutcomeUnknownError when it was sent and not answered in time. Called again it
   * acknowledges the job if it was not; else it throws the same, since a job that was acknowledged
   * cannot be told from one whose lease was lost
   */
  ack(options: QueueCallOptions = NO_OPTIONS): Promise<boolean> {
    const ack = async (): Promise<boolean> => {
      checkOptions('options', options);
      return (await this.taken.end({ verdict: Verdict.Ack }, copyCallOptions(options))) !== Settled.Lost;
    };
    return this.taken.commands.observe('queues.ack', ack, Boolean);
  }

  /**
   * As {@link ack}, and takes the next job in the same round trip, if there is one. It does not
   * wait for one.
   * @throws as `ack` does
   */
  async ackAndTakeNext(
    options: QueueCallOptions = NO_OPTIONS,
  ): Promise<{ acked: boolean; next: QueueJob<T> | null }> {
    const ackAndTakeNext = async (): Promise<{ acked: boolean; next: QueueJob<T> | null }> => {
      checkOptions('options', options);
      const ack = { verdict: Verdict.Ack };
      const { settled, next } = await this.taken.endAndGiveNext(ack, copyCallOptions(options));
      return { acked: settled !== Settled.Lost, next };
    };
    const hasChanged = ({ acked, next }: { acked: boolean; next: unknown }): boolean =>
      acked || next !== null;
    return await this.taken.commands.observe('queues.ackAndTakeNext', ackAndTakeNext, hasChanged);
  }

  /**
   * The delivery failed: the job is delivered again after a time, or goes to the dead letters after
   * `maxDeliveries`. With a `delayMs` of 0 it is at the end of the queue at once.
   *
   * @returns false when the lease had been lost
   * @throws as {@link ack} does
   */
  async retry(options: RetryOptions = {}): Promise<boolean> {
    const retry = async (): Promise<boolean> => {
      checkRetryOptions('options', options);
      const end = this.taken.failed(options.reason, options.delayMs);
      return (await this.taken.end(end, copyCallOptions(options))) !== Settled.Lost;
    };
    return await this.taken.commands.observe('queues.retry', retry, Boolean);
  }

  /**
   * Prolongs the lease. A consumer does so by itself, and does not undo this.
   *
   * @returns false when the lease had been lost
   * @throws as {@link ack} does
   */
  async extend(options: ExtendOptions = {}): Promise<boolean> {
    const extend = async (): Promise<boolean> => {
      checkExtendOptions('options', options);
      return await this.taken.extend(options.leaseMs, copyCallOptions(options));
    };
    return await this.taken.commands.observe('queues.extend', extend, Boolean);
  }
}
