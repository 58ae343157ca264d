import { LeaseLostError, OutcomeUnknownError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { LazyAbort } from '../redis/lazy-abort.js';
import { Settled, Verdict, type Delivery } from './advance.script.js';
import type { Settlement, Take } from './advances.js';
import type { QueueCommands } from './queue-commands.js';
import type { Advanced, QueueReader } from './queue-reader.js';
import { leaseMsCheck, queueCallOptionChecks, type QueueCallOptions } from './queue.options.js';

export interface RetryOptions extends QueueCallOptions {
  /** Why, for whoever reads the dead letters; cut after 500 characters. */
  reason?: string;
}

export interface ExtendOptions extends QueueCallOptions {
  /** From now, in milliseconds. Default: the queue's `leaseMs`. */
  leaseMs?: number;
}

const checkOptions = check.options(queueCallOptionChecks);
const checkRetryOptions = check.options({
  ...queueCallOptionChecks,
  reason: check.nonEmptyString,
} satisfies Record<keyof RetryOptions, check.Check>);
const checkExtendOptions = check.options({
  ...queueCallOptionChecks,
  leaseMs: leaseMsCheck,
} satisfies Record<keyof ExtendOptions, check.Check>);

/**
 * A job that was taken from a queue, and one delivery of it: once its lease is lost, the job may be delivered again, and what this object
 * is asked to do has no effect.
 */
export class QueueJob<T = unknown> {
  /** As `push` answered it. The same in every delivery, so fit for an idempotency key. */
  readonly id: string;
  readonly payload: T;
  /** How often the job was delivered, this time included; counted anew when it is requeued from the dead letters. */
  readonly deliveries: number;

  constructor(private readonly taken: TakenJob<T>) {
    ({ id: this.id, deliveries: this.deliveries } = taken.delivery);
    this.payload = taken.payload;
  }

  /** Aborts with a `LeaseLostError` as soon as it is known that the lease was lost. */
  get signal(): AbortSignal {
    return this.taken.signal;
  }

  /**
   * The job is done, and leaves the queue.
   *
   * @returns false when the lease had been lost: the job is delivered again, or was
   * @throws InvalidArgumentError, RedisUnavailableError, TransactionMisuseError; it may be called again
   * @throws OutcomeUnknownError when it was sent and not answered in time. Called again it acknowledges the job if it was not; else it throws the same, since
   * a job that was acknowledged cannot be told from one whose lease was lost
   */
  ack(options: QueueCallOptions = {}): Promise<boolean> {
    const ack = async (): Promise<boolean> => {
      checkOptions('options', options);
      return (await this.taken.end(Verdict.Ack, undefined, options)) !== Settled.Lost;
    };
    return this.taken.commands.observe('queues.ack', ack, Boolean);
  }

  /**
   * As {@link ack}, and takes the next job in the same round trip, if there is one. It does not wait for one.
   * @throws as `ack` does
   */
  async ackAndTakeNext(
    options: QueueCallOptions = {},
  ): Promise<{ acked: boolean; next: QueueJob<T> | null }> {
    const ackAndTakeNext = async (): Promise<{ acked: boolean; next: QueueJob<T> | null }> => {
      checkOptions('options', options);
      const { settled, next } = await this.taken.endAndTakeNext(Verdict.Ack, undefined, options);
      return { acked: settled !== Settled.Lost, next: next?.job ?? null };
    };
    const hasChanged = ({ acked, next }: { acked: boolean; next: unknown }): boolean =>
      acked || next !== null;
    return await this.taken.commands.observe('queues.ackAndTakeNext', ackAndTakeNext, hasChanged);
  }

  /**
   * The delivery failed: the job goes to the end of the queue at once, or to the dead letters after `maxDeliveries`.
   *
   * @returns false when the lease had been lost
   * @throws as {@link ack} does
   */
  async retry(options: RetryOptions = {}): Promise<boolean> {
    const retry = async (): Promise<boolean> => {
      checkRetryOptions('options', options);
      const { reason, ...rest } = options;
      return (await this.taken.end(Verdict.Retry, reason, rest)) !== Settled.Lost;
    };
    return await this.taken.commands.observe('queues.retry', retry, Boolean);
  }

  /**
   * Prolongs the lease. A consumer does so by itself.
   *
   * @returns false when the lease had been lost
   * @throws as {@link ack} does
   */
  async extend(options: ExtendOptions = {}): Promise<boolean> {
    const extend = async (): Promise<boolean> => {
      checkExtendOptions('options', options);
      const { leaseMs, ...rest } = options;
      return await this.taken.extend(leaseMs, rest);
    };
    return await this.taken.commands.observe('queues.extend', extend, Boolean);
  }
}

interface Ending {
  readonly verdict: Verdict;
  /** What becomes of the delivery. */
  readonly advanced: Promise<{ readonly settled: Settled }>;
}

/** What the library does with a job that was taken. */
export class TakenJob<T> {
  readonly job: QueueJob<T>;
  private readonly abort = new LazyAbort();
  private current: Ending | undefined;
  /** Of an acknowledgement that was not answered. */
  private unknownAck: OutcomeUnknownError | undefined;

  constructor(
    private readonly reader: QueueReader<T>,
    readonly delivery: Delivery,
    readonly payload: T,
    /** Monotonic time at which it was asked for: the lease began no earlier. */
    readonly askedAt: number,
  ) {
    this.job = new QueueJob(this);
  }

  get signal(): AbortSignal {
    return this.abort.signal;
  }

  get commands(): QueueCommands {
    return this.reader.commands;
  }

  /** How the delivery was ended, or is being ended. */
  get ending(): Ending | undefined {
    return this.current;
  }

  /** A delivery ends once: the same end again gets the same answer, another one finds the job gone. An end that failed may be tried again. */
  async end(verdict: Verdict, failure: string | undefined, options: QueueCallOptions): Promise<Settled> {
    if (this.ending) return await this.endedAlready(verdict, this.ending);
    return (await this.endBy({ verdict, delivery: this.delivery, failure }, undefined, options)).settled;
  }

  async endAndTakeNext(
    verdict: Verdict,
    failure: string | undefined,
    options: QueueCallOptions,
  ): Promise<Advanced<T>> {
    const take = { willWait: false };
    if (!this.ending && !this.unknownAck)
      return await this.endBy({ verdict, delivery: this.delivery, failure }, take, options);
    const settled = await this.end(verdict, failure, options);
    return { ...(await this.reader.advance(undefined, take, options)), settled };
  }

  async extend(leaseMs: number | undefined, options: QueueCallOptions): Promise<boolean> {
    const isHeld = !this.ending && (await this.reader.extend(this.delivery, leaseMs, options));
    if (!isHeld && !this.ending) this.lose();
    return isHeld;
  }

  lose(): void {
    if (this.abort.isAborted) return;
    const lost = new LeaseLostError();
    this.commands.leaseLost(lost);
    this.abort.abort(lost);
  }

  /** Its time is over. Where its holder is ending it, that end says whether it was lost. */
  loseUnlessEnded(): void {
    if (this.ending) this.ending.advanced.catch(() => this.lose());
    else this.lose();
  }

  /** It was given back: its work is to end. */
  abandon(): void {
    this.abort.abort(new LeaseLostError());
  }

  private async endBy(
    settlement: Settlement,
    take: Take | undefined,
    options: QueueCallOptions,
  ): Promise<Advanced<T>> {
    const { verdict } = settlement;
    const advanced = this.reader.advance(settlement, take, options);
    const ending = (this.current = { verdict, advanced });
    try {
      const answer = await advanced;
      if (answer.settled === Settled.Lost) {
        // What looks lost may have been acknowledged by the call before, and then nobody is given it.
        if (this.unknownAck) throw this.unknownAck;
        this.lose();
      }
      return answer;
    } catch (error) {
      if (this.current === ending) this.current = undefined;
      if (verdict === Verdict.Ack && error instanceof OutcomeUnknownError) this.unknownAck = error;
      throw error;
    }
  }

  private async endedAlready(verdict: Verdict, ending: Ending): Promise<Settled> {
    const { settled } = await ending.advanced;
    return verdict === ending.verdict ? settled : Settled.Lost;
  }
}
