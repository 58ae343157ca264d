import { setMaxListeners } from 'node:events';
import * as check from '../atomic-redis.validation.js';
import type { ObservedCall } from '../observability/observer.js';
import { whenAborted } from '../runtime/abort-listeners.js';
import { Deadline, fullJitter, sleep } from '../runtime/deadline.js';
import { TakeMode, Verdict, type NextTake } from './delivery.js';
import { ConsumerReport, reasonOf } from './consumer-report.js';
import type { QueueJob } from './queue-job.js';
import type { End } from './settle-and-take-terms.js';
import { insideHandler, type QueueReader } from './queue-reader.js';
import { retryAfterOf } from './refusal.js';
import type { TakenJob } from './taken-job.js';
import { keepRenewed } from './job-lease.js';

/**
 * The handler of a job. When it settles the job is acknowledged, when it throws it is retried,
 * unless it did so itself. @inline
 */
export type JobHandler<T> = (job: QueueJob<T>) => unknown;

interface Running {
  readonly operation: ObservedCall;
  readonly stopRenewing: () => void;
}

/** The length of one wait for a job. */
const WAIT_MS = 60_000;

/** For giving back jobs at the end, and for ends that are under way then. */
const RELEASE_TIMEOUT_MS = 2_000;

const NEXT: NextTake = { mode: TakeMode.Fresh, by: 'consumer' };

const checkStopOptions = check.options({ timeoutMs: check.waitMs(0) });

/** Takes jobs and runs them, as many at a time as its concurrency says, until it is stopped. */
export class RunningConsumer<T = unknown> {
  private readonly report: ConsumerReport;
  private readonly stopping = new AbortController();
  /** Jobs whose handler has not settled, in the order they were taken. */
  private readonly running = new Map<TakenJob<T>, Running>();
  /** Ends under way, of jobs whose handler has settled. */
  private readonly ends = new Set<Promise<unknown>>();
  /** Each runs one job after the other. */
  private readonly slots = new Set<Promise<void>>();
  private readonly fetching: Promise<void>;
  private slotFreed = (): void => undefined;
  /** Called when a job has ended. */
  private jobEnded: (() => void)[] = [];
  private stopped: Promise<void> | undefined;

  /** @internal */
  constructor(
    private readonly reader: QueueReader<T>,
    private readonly handler: JobHandler<T>,
    private readonly concurrency: number,
    private readonly defaultStopTimeoutMs: number,
  ) {
    this.report = new ConsumerReport(reader.commands.queue, reader.terms.maxDeliveries);
    // Each wait for a job listens to it.
    setMaxListeners(0, this.stopping.signal);
    const removeCapacity = reader.hands.addCapacity(concurrency);
    this.fetching = this.fetch().finally(removeCapacity);
  }

  /** Resolves when it is stopped and no job is running any more. */
  async ended(): Promise<void> {
    await this.fetching;
    while (this.slots.size > 0) await Promise.all(this.slots);
  }

  /**
   * Takes no more jobs, waits for those in hand, and when the time is up gives back the rest, whose
   * `signal` then aborts. Repeating it waits for the first. Called by a handler of this consumer,
   * it does not wait for that handler's own job.
   *
   * @param options.timeoutMs how long to wait for jobs in hand. Default: the module's
   * `shutdownTimeoutMs`
   * @throws InvalidArgumentError
   */
  async stop(options: { timeoutMs?: number } = {}): Promise<void> {
    checkStopOptions('options', options);
    const stopped = this.stopAll(options.timeoutMs);
    const own = insideHandler.find((job) => this.running.has(job as TakenJob<T>));
    await (own ? Promise.race([stopped, this.othersEnded(own as TakenJob<T>)]) : stopped);
  }

  /** As {@link stop}, and waits for the caller's own job too. @internal */
  stopAll(timeoutMs = this.defaultStopTimeoutMs): Promise<void> {
    return (this.stopped ??= this.stopWithin(timeoutMs));
  }

  private async othersEnded(own: TakenJob<T>): Promise<void> {
    await this.fetching;
    const isOther = (taken: TakenJob<T>): boolean => taken !== own;
    while ([...this.running.keys()].some(isOther))
      await new Promise<void>((resolve) => this.jobEnded.push(resolve));
  }

  private async stopWithin(timeoutMs: number): Promise<void> {
    this.stopping.abort(new Error('stopped'));
    try {
      await Deadline.in(timeoutMs).race(this.ended(), () => new Error('not in time'));
    } catch {
      // First what ends under way have taken: it goes in front, and what was taken before it goes
      // in front of that.
      await Deadline.in(RELEASE_TIMEOUT_MS)
        .race(Promise.allSettled([this.fetching, ...this.ends]), () => new Error('not in time'))
        .catch(() => undefined);
      const left = [...this.running].toReversed();
      for (const [, { stopRenewing }] of left) stopRenewing();
      this.running.clear();
      await Promise.all(left.map(([taken, { operation }]) => this.release(taken, operation)));
      if (left.length > 0) this.report.givenBack(left.length, timeoutMs);
    }
  }

  private async fetch(): Promise<void> {
    const { signal } = this.stopping;
    const { report } = this;
    const free = (): number => this.concurrency - this.slots.size;
    for (let failures = 0; !signal.aborted;) {
      try {
        if (free() === 0) await this.untilFree(signal);
        const jobs = await this.reader.take('consumer', free, {
          waitMs: WAIT_MS,
          signal,
          propagation: 'outside',
        });
        failures = 0;
        report.isWell();
        // In the moment of the stop: back to the head, the first of them last.
        for (const taken of signal.aborted ? jobs.toReversed() : jobs) this.begin(taken);
      } catch (error) {
        if (signal.aborted) return;
        report.outage(error);
        await sleep(fullJitter(++failures, 50, 5_000), signal).catch(() => undefined);
      }
    }
  }

  private async untilFree(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    let stopListening = (): void => undefined;
    await new Promise<void>((resolve) => {
      this.slotFreed = resolve;
      stopListening = whenAborted(signal, resolve);
    });
    stopListening();
  }

  private begin(taken: TakenJob<T>): void {
    const slot = this.work(taken).finally(() => {
      this.slots.delete(slot);
      this.slotFreed();
    });
    this.slots.add(slot);
  }

  /** Runs a job, and those that its end takes. Never rejects. */
  private async work(first: TakenJob<T>): Promise<void> {
    try {
      for (let taken: TakenJob<T> | undefined = first; taken;) taken = await this.process(taken);
    } catch (error) {
      this.report.outage(error);
    } finally {
      this.reader.hands.endRun();
      first.alone?.end();
    }
  }

  /**
   * Runs one job, and renews its lease meanwhile. Resolves with the next, when there is one. Each
   * promise more is paid for by every job.
   */
  private process(taken: TakenJob<T>): Promise<TakenJob<T> | undefined> {
    // It arrived in the moment of the stop.
    if (this.stopping.signal.aborted) return this.release(taken);
    const operation = this.reader.commands.beginProcessing(taken.delivery);
    return operation.within(() => this.processAs(operation, taken));
  }

  private async processAs(operation: ObservedCall, taken: TakenJob<T>): Promise<TakenJob<T> | undefined> {
    const stopRenewing = keepRenewed(taken);
    this.running.set(taken, { operation, stopRenewing });
    let failure: { error: unknown } | undefined;
    try {
      if (!taken.hasArrived) {
        await taken.arrive();
        // Given back, or lost on the way.
        if (taken.isAborted) throw taken.signal.reason;
      }
      taken.isHandled = true;
      await insideHandler.run(taken, () => this.handler(taken.job));
      // A transaction that is to end the job is part of its handler, awaited or not.
      if (taken.begunCommit?.isAnyLeft) await taken.begunCommit.untilOver();
    } catch (error) {
      failure = { error };
      if (taken.begunCommit?.isAnyLeft) await taken.begunCommit.untilOver().catch(() => undefined);
    } finally {
      taken.isHandled = false;
      stopRenewing();
    }
    // Given back when the time was up.
    if (!this.running.delete(taken)) return undefined;
    const ending = this.settle(operation, taken, failure);
    this.ends.add(ending);
    try {
      return await ending;
    } finally {
      this.ends.delete(ending);
      if (this.jobEnded.length > 0) for (const tell of this.jobEnded.splice(0)) tell();
    }
  }

  /** Ends a delivery whose handler has settled. Resolves with the next job, when there is one. */
  private async settle(
    operation: ObservedCall,
    taken: TakenJob<T>,
    failure: { error: unknown } | undefined,
  ): Promise<TakenJob<T> | undefined> {
    const { report } = this;
    if (taken.ending) {
      const { ending } = taken;
      if (failure && taken.hasArrived) report.threwAfterEnd(taken.delivery, failure.error);
      else if (failure) report.didNotArrive(taken.delivery, failure.error);
      await ending.advanced.then(
        ({ settled }) => report.ended(operation, taken.delivery, ending, settled, failure),
        (error: unknown) => report.unrecorded(operation, taken.delivery, error),
      );
      return undefined;
    }

    // The others of a process that runs several jobs may be ended together.
    const end: End = { ...endOf(taken, failure), mayWait: this.concurrency > 1 };
    // As long as the lease lasts: after that it would be in vain.
    const options = { timeoutMs: this.reader.terms.leaseMs, propagation: 'outside' } as const;
    try {
      const mayTakeNext = !this.stopping.signal.aborted && !taken.alone && this.reader.mayTakeNext;
      if (!mayTakeNext) {
        const settled = await taken.end(end, options);
        report.settled(operation, taken.delivery, end, settled, failure);
        return undefined;
      }
      const advanced = await taken.endAndTakeNext(end, NEXT, options);
      report.settled(operation, taken.delivery, end, advanced.settled, failure);
      const [next] = advanced.jobs;
      if (!next) this.reader.lookAgain(advanced);
      // Stopped meanwhile: it goes back, as part of this end.
      return next && this.stopping.signal.aborted ? await this.process(next) : next;
    } catch (error) {
      report.unrecorded(operation, taken.delivery, error);
      throw error;
    }
  }

  private async release(
    taken: TakenJob<T>,
    operation = this.reader.commands.beginProcessing(taken.delivery),
  ): Promise<undefined> {
    try {
      const options = { timeoutMs: RELEASE_TIMEOUT_MS, propagation: 'outside' } as const;
      await Deadline.in(RELEASE_TIMEOUT_MS).race(
        Promise.resolve(taken.begunCommit?.revoke()),
        () => new Error('a transaction with completesJob was not answered in time'),
      );
      await taken.end({ verdict: Verdict.Release }, options);
      // The handler may have ended it before.
      const ending = taken.ending!;
      this.report.ended(operation, taken.delivery, ending, (await ending.advanced).settled);
    } catch (error) {
      // It comes back when its lease ends.
      this.report.unrecorded(operation, taken.delivery, error);
    }
    taken.abandon();
  }
}

function endOf(taken: TakenJob<unknown>, failure: { error: unknown } | undefined): End {
  if (!failure) return { verdict: Verdict.Ack };
  const delayMs = retryAfterOf(failure.error);
  if (delayMs !== undefined) return { verdict: Verdict.Defer, delayMs };
  return taken.failed(reasonOf(failure.error));
}
