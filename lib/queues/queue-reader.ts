import { Deadline } from '../runtime/deadline.js';
import { AsyncScope } from '../runtime/async-scope.js';
import { backOffMs, resolveRetry, type RetryBackOff } from './back-off.js';
import { TakeMode, Verdict, type Delivery, type NextTake, type Taker } from './delivery.js';
import type { SettleAndTakeTerms, End, Settlement } from './settle-and-take-terms.js';
import { MAX_SETTLE_AND_TAKE, type SettledAndTaken as AdvancedRaw, type Take } from './settle-and-take.js';
import type { Hands } from './hands.js';
import { keepRenewed } from './job-lease.js';
import type { JobWaiters } from './job-waiters.js';
import type { LargePayloads } from './large-payloads.js';
import type { PayloadFormat } from './payload-format.js';
import type { QueueCommands } from './queue-commands.js';
import type { QueueCallOptions } from './queue.options.js';
import { InvalidPayloadError } from './queue.errors.js';
import { TakenJob, unreadable, type SettledAndTakenJobs, type JobReader } from './taken-job.js';

export interface TakeCall extends QueueCallOptions {
  /** The time to wait for a job; 0 does not wait. */
  waitMs: number;
  leaseMs?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** The parts that all consumers and takers of one queue share in this process. */
export interface QueueShare {
  readonly commands: QueueCommands;
  readonly waiters: JobWaiters;
  readonly payloads: LargePayloads;
  /** There were jobs whose lease had ended, when Redis was last asked. */
  suspects: boolean;
}

/**
 * Bounds, in milliseconds, of the time between two polls without a notification. Within them it is
 * a third of a lease, so a lapsed job is found at most that late.
 */
const LOOK_MS = { min: 1_000, max: 10_000 };

/** Shortest time to the next look: a clock may be a little behind. */
const MIN_LOOK_MS = 10;

/** The code of a handler, while it runs. */
export const insideHandler = new AsyncScope<object>();

/** Takes and ends jobs of one queue, with payloads of one format. */
export class QueueReader<T> implements JobReader<T> {
  constructor(
    /** Held as a whole: it is the process's share in the queue while any reference exists. */
    private readonly share: QueueShare,
    private readonly format: PayloadFormat,
    readonly terms: SettleAndTakeTerms,
    private readonly retry: Required<RetryBackOff>,
    readonly hands: Hands,
    private readonly timeoutMs: number,
  ) {}

  get commands(): QueueCommands {
    return this.share.commands;
  }

  /** The end of a failed delivery: its job waits, unless it was the last one. */
  failed({ deliveries, retry }: Delivery, failure: string | undefined, delayMs?: number): End {
    const backOff = retry ? resolveRetry(this.retry, retry) : this.retry;
    return { verdict: Verdict.Retry, failure, delayMs: delayMs ?? backOffMs(deliveries, backOff) };
  }

  decode(bytes: Buffer): T | Promise<T> {
    return this.format.decode(bytes) as T | Promise<T>;
  }

  /** Fetches a large payload. */
  async fetch({ id, size }: Delivery): Promise<Buffer> {
    const bytes = await this.share.payloads.fetch(this.commands.keys.jobs, id, size, this.timeoutMs);
    if (!bytes) throw new Error('the job is gone from the queue');
    return bytes;
  }

  /** Takes one job for code that calls `take`. */
  async takeOne({ waitMs, leaseMs, signal, ...options }: TakeCall): Promise<TakenJob<T> | undefined> {
    const terms = leaseMs === undefined ? this.terms : { ...this.terms, leaseMs };
    const until = Deadline.in(waitMs);
    for (;;) {
      signal?.throwIfAborted();
      const leftMs = Math.ceil(until.remainingMs);
      const taken =
        leftMs > 0
          ? (await this.take('hand', () => 1, { waitMs: leftMs, signal, ...options }, terms))[0]
          : await this.takeNow(options, terms);
      if (!taken || taken.hasArrived) return taken;
      try {
        await this.arrived(taken);
        return taken;
      } catch (error) {
        // As of one whose schema takes no time: it is in the dead letters, and the next is taken.
        if (!(error instanceof InvalidPayloadError)) throw error;
      }
    }
  }

  /** Waits for a large payload. The lease is renewed meanwhile. */
  async arrived(taken: TakenJob<T>): Promise<void> {
    if (taken.hasArrived) return;
    const stopRenewing = keepRenewed(taken);
    try {
      await taken.arrive();
    } finally {
      stopRenewing();
    }
  }

  private async takeNow(
    options: QueueCallOptions,
    terms: SettleAndTakeTerms,
  ): Promise<TakenJob<T> | undefined> {
    for (;;) {
      const { jobs, left } = await this.advance(
        undefined,
        { mode: TakeMode.Any, by: 'hand' },
        options,
        terms,
      );
      if (jobs[0] || !left) return jobs[0];
    }
  }

  /**
   * Waits for jobs. Resolves with none when the time is up.
   * @param count how many may be taken, asked each time
   */
  async take(
    by: Taker,
    count: () => number,
    { waitMs, signal, ...options }: Omit<TakeCall, 'leaseMs'>,
    terms = this.terms,
  ): Promise<readonly TakenJob<T>[]> {
    const { hands, share } = this;
    const until = Deadline.in(waitMs);
    // A handler that waits for the answer to a job of its own must not wait for itself.
    const isFree = by === 'hand' && insideHandler.find() !== undefined;
    for (;;) {
      signal?.throwIfAborted();
      if (!isFree && hands.isTakenAlone) {
        if (!(await hands.open(until, signal))) return [];
        continue;
      }
      if (!isFree && share.suspects) {
        const suspect = await this.takeSuspect(by, until, signal, options, terms);
        if (suspect) return [suspect];
        if (until.passed) return [];
        continue;
      }
      const take = { mode: TakeMode.Fresh, by };
      const taken = await hands.take(by, () =>
        this.advance(undefined, take, options, terms, Math.min(count(), MAX_SETTLE_AND_TAKE), true),
      );
      if (taken.jobs.length > 0 || until.passed) return taken.jobs;
      if (taken.left || (share.suspects && !isFree)) continue;
      const thirdMs = Math.min(LOOK_MS.max, Math.max(LOOK_MS.min, terms.leaseMs / 3));
      // A suspect's lease has ended already; this take may not have it.
      const nextMs = taken.suspects ? undefined : taken.nextMs;
      const lookMs = Math.max(MIN_LOOK_MS, Math.min(thirdMs, nextMs ?? Infinity));
      if (!(await share.waiters.turn(until, lookMs, signal))) return [];
    }
  }

  /** Has those who wait look again: there are jobs that nothing told them of. */
  lookAgain({ left, suspects, nextMs }: Pick<AdvancedRaw, 'left' | 'suspects' | 'nextMs'>): void {
    if (left || suspects) this.share.waiters.wake();
    else if (nextMs !== undefined) this.share.waiters.lookIn(Math.max(MIN_LOOK_MS, nextMs));
  }

  /** True if a consumer may take the next job with an end: no suspect waits for the process. */
  get mayTakeNext(): boolean {
    return !this.hands.isTakenAlone && !this.share.suspects;
  }

  /** Ends a delivery, takes jobs without waiting for them, or both. */
  async advance(
    settlement: Settlement | undefined,
    next: NextTake | undefined,
    options: QueueCallOptions,
    terms = this.terms,
    count = 1,
    isWaiting = false,
  ): Promise<SettledAndTakenJobs<T>> {
    const { share, hands } = this;
    const hasNeighbours = next?.mode === TakeMode.Fresh && hands.hasNeighbours;
    const take: Take | undefined = next && { count, mode: next.mode, hasNeighbours, isWaiting };
    let askedAt = performance.now();
    let raw = await share.commands.advance(settlement, take, terms, options);
    const { settled } = raw;
    for (;;) {
      if (take) share.suspects = raw.suspects;
      const { jobs, broken } = this.read(raw.taken, terms.leaseMs, askedAt);
      // Before anything else can happen: a suspect looks whether there are any.
      if (next?.by === 'hand') for (const job of jobs) hands.hold(job);
      else if (!settlement) for (const _ of jobs) hands.beginRun();
      const { left, suspects, nextMs } = raw;
      const advanced = { settled, jobs, left, suspects, nextMs };
      if (broken.length === 0) return advanced;
      askedAt = performance.now();
      try {
        // If there is nothing else, the next is taken with the end of the last of them.
        const again = jobs.length === 0 ? take : undefined;
        const buried = await Promise.all(
          broken.map((one, i) =>
            share.commands.advance(one, i === broken.length - 1 ? again : undefined, terms, options),
          ),
        );
        if (!again) return advanced;
        raw = buried.at(-1)!;
      } catch (error) {
        // The jobs taken or settled before stay so; these come back when their leases end.
        if (settlement || jobs.length > 0) return advanced;
        throw error;
      }
    }
  }

  private async takeSuspect(
    by: Taker,
    until: Deadline,
    signal: AbortSignal | undefined,
    options: QueueCallOptions,
    terms: SettleAndTakeTerms,
  ): Promise<TakenJob<T> | undefined> {
    const alone = await this.hands.takeAlone(by, until, signal);
    if (!alone) return undefined;
    let suspect: TakenJob<T> | undefined;
    try {
      const take = { mode: TakeMode.Alone, by };
      [suspect] = (await this.advance(undefined, take, options, terms, 1, true)).jobs;
      if (suspect) suspect.alone = alone;
      return suspect;
    } finally {
      if (!suspect) alone.end();
    }
  }

  /**
   * A job whose payload cannot be read would be taken again and again: it goes to the dead letters.
   */
  private read(
    taken: readonly Delivery[],
    leaseMs: number,
    askedAt: number,
  ): { jobs: TakenJob<T>[]; broken: Settlement[] } {
    const jobs: TakenJob<T>[] = [];
    const broken: Settlement[] = [];
    for (const delivery of taken) {
      try {
        jobs.push(new TakenJob(this, delivery, leaseMs, askedAt));
      } catch (error) {
        broken.push({ verdict: Verdict.Bury, delivery, failure: unreadable(error) });
      }
    }
    return { jobs, broken };
  }
}
