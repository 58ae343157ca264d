import { IllegalTransactionStateError, LeaseLostError, OutcomeUnknownError } from '../atomic-redis.errors.js';
import { LazyAbort } from '../runtime/lazy-abort.js';
import { Settled, TakeMode, Verdict, type Delivery, type NextTake } from './delivery.js';
import type { SettleAndTakeTerms, End, Settlement } from './settle-and-take-terms.js';
import type { SettledAndTaken as AdvancedRaw } from './settle-and-take.js';
import type { Alone, HeldByHand, Hands } from './hands.js';
import { JobCommit, type CommittedJob } from './job-commit.js';
import type { RenewedJob } from './job-lease.js';
import type { QueueCommands } from './queue-commands.js';
import { QueueJob, type JobDelivery } from './queue-job.js';
import type { QueueCallOptions } from './queue.options.js';

interface Ending {
  readonly verdict: Verdict;
  readonly delayMs: number | undefined;
  /** The end of the delivery. */
  readonly advanced: Promise<{ readonly settled: Settled }>;
}

/** The take of `ackAndTakeNext`: any job, as by a `take` that does not wait. */
const NEXT_BY_HAND: NextTake = { mode: TakeMode.Any, by: 'hand' };

/** The end of a delivery, and the jobs taken. */
export interface SettledAndTakenJobs<T> extends Pick<AdvancedRaw, 'left' | 'suspects' | 'nextMs'> {
  /** `done` where there was none to end. */
  readonly settled: Settled;
  readonly jobs: readonly TakenJob<T>[];
}

/** The part of its reader that a job needs. */
export interface JobReader<T> {
  readonly commands: QueueCommands;
  readonly terms: SettleAndTakeTerms;
  readonly hands: Hands;
  /** Returns a promise where the queue's schema takes its time. */
  decode(bytes: Buffer): T | Promise<T>;
  /** Waits for a payload that is large, or is being checked. */
  arrived(taken: TakenJob<T>): Promise<void>;
  /** Fetches a large payload. */
  fetch(delivery: Delivery): Promise<Buffer>;
  /** The end of a failed delivery. */
  failed(delivery: Delivery, failure: string | undefined, delayMs?: number): End;
  /** Ends a delivery, takes jobs without waiting for them, or both. */
  advance(
    settlement: Settlement | undefined,
    next: NextTake | undefined,
    options: QueueCallOptions,
  ): Promise<SettledAndTakenJobs<T>>;
}

/** A job that was taken, as the library sees it. */
export class TakenJob<T> implements JobDelivery<T>, RenewedJob, HeldByHand, CommittedJob {
  /** In the process's hands, where it was taken by hand. */
  index = -1;
  /** The right to the process, where the job was taken alone. */
  alone: Alone | undefined;
  private readonly abort = new LazyAbort();
  /** The end of the delivery, done or under way. */
  ending: Ending | undefined;
  /** Monotonic time at which the lease ends, as far as Redis has confirmed it. */
  leaseEndsAt: number;
  private arrived: { readonly payload: T } | undefined;
  /** The check by the queue's schema, if it takes its time. */
  private decoding: Promise<T> | undefined;
  private public: QueueJob<T> | undefined;
  /** The error of an acknowledgement that was not answered. */
  private unknownAck: OutcomeUnknownError | undefined;
  /** The transactions that may end the delivery, if one was begun. */
  begunCommit: JobCommit | undefined;
  isHandled = false;
  /** Settles when the extensions that are under way are answered. */
  extending: Promise<unknown> | undefined;

  constructor(
    private readonly reader: JobReader<T>,
    readonly delivery: Delivery,
    readonly leaseMs: number,
    /** Monotonic time at which it was asked for: the lease began no earlier. */
    askedAt: number,
  ) {
    this.leaseEndsAt = askedAt + leaseMs;
    if (!delivery.payload) return;
    const payload = reader.decode(delivery.payload);
    if (!(payload instanceof Promise)) this.arrived = { payload };
    else {
      this.decoding = payload;
      // Set by `arrive`.
      payload.catch(() => undefined);
    }
  }

  /** As its taker sees it, once it has arrived. */
  get job(): QueueJob<T> {
    return (this.public ??= new QueueJob(this));
  }

  /** Once it has arrived. */
  get payload(): T {
    return this.arrived!.payload;
  }

  get hasArrived(): boolean {
    return this.arrived !== undefined;
  }

  get signal(): AbortSignal {
    return this.abort.signal;
  }

  get isAborted(): boolean {
    return this.abort.isAborted;
  }

  get commands(): QueueCommands {
    return this.reader.commands;
  }

  get hasEnded(): boolean {
    return this.ending !== undefined || this.unknownAck !== undefined;
  }

  get commit(): JobCommit {
    return (this.begunCommit ??= new JobCommit(this));
  }

  get isBeingCompleted(): boolean {
    return this.begunCommit?.isOpen ?? false;
  }

  committed(unknown?: OutcomeUnknownError): void {
    if (unknown) {
      this.unknownAck = unknown;
      return;
    }
    const advanced = Promise.resolve({ settled: Settled.Done });
    this.ending = { verdict: Verdict.Ack, delayMs: undefined, advanced };
    this.letGo();
  }

  /**
   * Waits for the payload, where it is too large to come with others, or is being checked. A job
   * whose payload does not arrive, or cannot be read, has failed, and its delivery is ended.
   *
   * @throws RedisUnavailableError when it does not arrive in time; whatever says why it cannot be
   * read
   */
  async arrive(): Promise<void> {
    if (this.arrived) return;
    let end: End | undefined;
    try {
      const bytes = this.decoding
        ? undefined
        : await this.reader.fetch(this.delivery).catch((error: Error) => {
            end = this.failed(error.message);
            throw error;
          });
      try {
        this.arrived = { payload: await (this.decoding ?? this.reader.decode(bytes!)) };
      } catch (error) {
        end = { verdict: Verdict.Bury, failure: unreadable(error) };
        throw error;
      }
    } finally {
      // Not told, it comes back when its lease ends.
      if (end && !this.isAborted && !this.ending)
        await this.end(end, { propagation: 'outside' }).catch(() => undefined);
    }
  }

  /**
   * Returns the end of a delivery that failed.
   * @param delayMs how long the job waits then. Default: as its queue's back-off has it
   */
  failed(failure: string | undefined, delayMs?: number): End {
    return this.reader.failed(this.delivery, failure, delayMs);
  }

  renew(): Promise<boolean> {
    const { leaseMs } = this;
    return this.extend(leaseMs, { timeoutMs: Math.ceil(leaseMs / 3), propagation: 'outside' });
  }

  /** If its holder is ending it, that end tells a loss. */
  leaseIsOver(): void {
    if (this.ending) this.ending.advanced.catch(() => this.lose());
    else this.lose();
  }

  /**
   * A delivery ends once: the same end again gets the same answer, another one finds the job gone.
   * An end that failed may be tried again.
   */
  async end(end: End, options: QueueCallOptions): Promise<Settled> {
    this.assertFree();
    const { ending } = this;
    if (!ending) return (await this.endBy(end, undefined, options)).settled;
    const { settled } = await ending.advanced;
    return end.verdict === ending.verdict ? settled : Settled.Lost;
  }

  /** As {@link end}, and takes the next one, if there is one and the process may. */
  endAndTakeNext(end: End, take: NextTake, options: QueueCallOptions): Promise<SettledAndTakenJobs<T>> {
    this.assertFree();
    const isFirst = !this.ending && !this.unknownAck;
    return isFirst ? this.endBy(end, take, options) : this.endAgainAndTakeNext(end, take, options);
  }

  /**
   * As {@link endAndTakeNext}, for code that takes by hand. The next job has arrived; one that did
   * not has failed, and there is none.
   */
  async endAndGiveNext(
    end: End,
    options: QueueCallOptions,
  ): Promise<{ settled: Settled; next: QueueJob<T> | null }> {
    const { settled, jobs } = await this.endAndTakeNext(end, NEXT_BY_HAND, options);
    const [next] = jobs;
    const hasArrived = next && (next.hasArrived || (await hasCome(this.reader.arrived(next))));
    return { settled, next: hasArrived ? next.job : null };
  }

  private async endAgainAndTakeNext(
    end: End,
    take: NextTake,
    options: QueueCallOptions,
  ): Promise<SettledAndTakenJobs<T>> {
    const settled = await this.end(end, options);
    return { ...(await this.reader.advance(undefined, take, options)), settled };
  }

  async extend(leaseMs: number | undefined, options: QueueCallOptions): Promise<boolean> {
    this.assertFree();
    if (this.ending) return false;
    const extension = this.extendBy(leaseMs ?? this.reader.terms.leaseMs, options);
    const extending = Promise.allSettled([this.extending, extension]);
    this.extending = extending;
    const isHeld = await extension.finally(() => {
      if (this.extending === extending) this.extending = undefined;
    });
    if (!isHeld && !this.ending) this.lose();
    return isHeld;
  }

  /** For a transaction that is about to end the delivery. */
  prolong(ms: number, timeoutMs: number): Promise<boolean> {
    return this.extendBy(ms, { timeoutMs, propagation: 'outside' });
  }

  private async extendBy(ms: number, options: QueueCallOptions): Promise<boolean> {
    const sentAt = performance.now();
    const isHeld = await this.commands.extend(this.delivery, ms, options);
    if (isHeld) this.leaseEndsAt = Math.max(this.leaseEndsAt, sentAt + ms);
    return isHeld;
  }

  lose(): void {
    if (this.abort.isAborted) return;
    const lost = new LeaseLostError();
    this.commands.leaseLost(lost);
    this.abort.abort(lost);
    this.letGo();
  }

  /** It was given back: its work is to end. */
  abandon(): void {
    this.abort.abort(new LeaseLostError());
  }

  private async endBy(
    end: End,
    take: NextTake | undefined,
    options: QueueCallOptions,
  ): Promise<SettledAndTakenJobs<T>> {
    const { verdict, delayMs } = end;
    const advanced = this.reader.advance({ ...end, delivery: this.delivery }, take, options);
    const ending = (this.ending = { verdict, delayMs, advanced });
    try {
      const answer = await advanced;
      if (answer.settled === Settled.Lost) {
        // An earlier call may have acknowledged a job that looks lost; then no other consumer gets
        // it.
        if (this.unknownAck) throw this.unknownAck;
        this.lose();
      }
      this.letGo();
      return answer;
    } catch (error) {
      if (this.ending === ending) this.ending = undefined;
      if (verdict === Verdict.Ack && error instanceof OutcomeUnknownError) this.unknownAck = error;
      throw error;
    }
  }

  /** @throws IllegalTransactionStateError while a transaction is about to end the delivery */
  private assertFree(): void {
    if (!this.isBeingCompleted) return;
    throw new IllegalTransactionStateError(
      `A transaction with completesJob is completing job ${this.delivery.id}: nothing else can settle or extend it meanwhile`,
    );
  }

  private letGo(): void {
    this.reader.hands.letGo(this);
    this.alone?.end();
  }
}

const hasCome = (arriving: Promise<void>): Promise<boolean> =>
  arriving.then(
    () => true,
    () => false,
  );

/** Why a job whose payload cannot be read is in the dead letters. */
export const unreadable = (error: unknown): string =>
  `its payload could not be read: ${(error as Error).message}`;
