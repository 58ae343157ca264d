import { Logger } from '@nestjs/common';
import { describe, type Outcome } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import type { QueueProcessEvent } from '../observability/event-types.js';
import { failureOf, type Operation } from '../observability/observer.js';
import { Deadline, fullJitter, sleep } from '../redis/deadline.js';
import { Settled, Verdict } from './advance.script.js';
import { keepRenewed } from './lease-renewal.js';
import type { QueueJob, TakenJob } from './queue-job.js';
import type { QueueReader } from './queue-reader.js';

/** What runs a job: when it settles the job is acknowledged, when it throws it is retried, unless it did so itself. */
export type JobHandler<T> = (job: QueueJob<T>) => unknown;

interface Running {
  readonly operation: Operation;
  readonly stopRenewing: () => void;
}

/** How long one wait for a job lasts. */
const WAIT_MS = 60_000;

/** For giving back one job at the end, and for ends that are under way then. */
const RELEASE_TIMEOUT_MS = 2_000;

const checkStopOptions = check.options({ timeoutMs: check.waitMs(0) });

/** Takes jobs and runs them, as many at a time as its concurrency says, until it is stopped. */
export class RunningConsumer<T = unknown> {
  private readonly logger = new Logger('QueueConsumer');
  private readonly stopping = new AbortController();
  /** Jobs whose handler has not settled. */
  private readonly running = new Map<TakenJob<T>, Running>();
  /** Ends under way, of jobs whose handler has settled. */
  private readonly ends = new Set<Promise<unknown>>();
  private readonly loops: Promise<unknown>;
  private stopped: Promise<void> | undefined;

  constructor(
    private readonly reader: QueueReader<T>,
    private readonly handler: JobHandler<T>,
    concurrency: number,
    private readonly defaultStopTimeoutMs: number,
  ) {
    this.loops = Promise.all(Array.from({ length: concurrency }, () => this.loop()));
  }

  /** Resolves when it is stopped and no job is running any more. */
  async ended(): Promise<void> {
    await this.loops;
  }

  /**
   * Takes no more jobs, waits for those in hand, and when the time is up gives back the rest, whose `signal` then aborts. Repeating it waits for the
   * first.
   *
   * @param options.timeoutMs how long to wait for jobs in hand. Default: the module's `shutdownTimeoutMs`
   * @throws InvalidArgumentError
   */
  async stop(options: { timeoutMs?: number } = {}): Promise<void> {
    checkStopOptions('options', options);
    this.stopped ??= this.stopWithin(options.timeoutMs ?? this.defaultStopTimeoutMs);
    await this.stopped;
  }

  private async stopWithin(timeoutMs: number): Promise<void> {
    this.stopping.abort(new Error('stopped'));
    try {
      await Deadline.in(timeoutMs).race(this.loops, () => new Error('not in time'));
    } catch {
      const left = [...this.running];
      for (const [, { stopRenewing }] of left) stopRenewing();
      this.running.clear();
      const ends = Promise.allSettled(this.ends);
      await Promise.all([
        ...left.map(([taken, { operation }]) => this.release(taken, operation)),
        Deadline.in(RELEASE_TIMEOUT_MS)
          .race(ends, () => new Error('not in time'))
          .catch(() => undefined),
      ]);
      if (left.length > 0)
        this.log(() =>
          this.logger.warn(
            `${left.length} jobs of queue ${this.name} were still running after ${timeoutMs} ms and go back to it`,
          ),
        );
    }
  }

  private async loop(): Promise<void> {
    const { signal } = this.stopping;
    let taken: TakenJob<T> | undefined;
    for (let failures = 0; taken !== undefined || !signal.aborted;) {
      try {
        taken ??= await this.reader.take({ waitMs: WAIT_MS, signal, propagation: 'outside' });
        if (taken) taken = await this.process(taken);
        failures = 0;
      } catch (error) {
        taken = undefined;
        if (signal.aborted) return;
        // Once for each outage.
        if (++failures === 1)
          this.log(() =>
            this.logger.warn(
              `Queue ${this.name} cannot be worked on, and is tried again: ${(error as Error).message}`,
            ),
          );
        await sleep(fullJitter(failures, 50, 5_000), signal).catch(() => undefined);
      }
    }
  }

  /** Runs one job. Resolves with the next, when there is one. */
  private async process(taken: TakenJob<T>): Promise<TakenJob<T> | undefined> {
    const operation = this.reader.commands.beginProcessing();
    return await operation.within(() => this.processAs(operation, taken));
  }

  private async processAs(operation: Operation, taken: TakenJob<T>): Promise<TakenJob<T> | undefined> {
    // It arrived in the moment of the stop.
    if (this.stopping.signal.aborted) return await this.release(taken, operation);
    const failure = await this.run(taken, operation);
    // Given back when the time was up.
    if (!this.running.delete(taken)) return undefined;
    const ending = this.settle(operation, taken, failure);
    this.ends.add(ending);
    try {
      return await ending;
    } finally {
      this.ends.delete(ending);
    }
  }

  /** Ends a delivery whose handler has settled. Resolves with the next job, when there is one. */
  private async settle(
    operation: Operation,
    taken: TakenJob<T>,
    failure: { error: unknown } | undefined,
  ): Promise<TakenJob<T> | undefined> {
    if (taken.ending) {
      const { verdict: chosen, advanced } = taken.ending;
      await advanced.then(
        ({ settled }) => this.tell(operation, taken, endOf(chosen, settled), failure),
        (error: unknown) => this.tell(operation, taken, 'unrecorded', { error }),
      );
      return undefined;
    }

    const verdict = failure ? Verdict.Retry : Verdict.Ack;
    const reason = failure && messageOf(failure.error);
    // As long as the lease lasts: after that it would be in vain.
    const options = { timeoutMs: this.reader.terms.leaseMs, propagation: 'outside' } as const;
    try {
      const { settled, next } = this.stopping.signal.aborted
        ? { settled: await taken.end(verdict, reason, options), next: undefined }
        : await taken.endAndTakeNext(verdict, reason, options);
      this.log(() => this.report(taken, settled, failure));
      this.tell(operation, taken, endOf(verdict, settled), failure);
      // Stopped meanwhile: it goes back, as part of this end.
      return next && this.stopping.signal.aborted ? await this.process(next) : next;
    } catch (error) {
      this.tell(operation, taken, 'unrecorded', { error });
      throw error;
    }
  }

  private tell(
    operation: Operation,
    { delivery: { deliveries } }: TakenJob<T>,
    ended: QueueProcessEvent['ended'],
    failure?: { error: unknown },
  ): void {
    operation.end(() => {
      const outcome: Outcome = ended === 'lost' ? 'not-applied' : 'applied';
      const failed = failure && failureOf(failure.error);
      // What the handler threw says nothing of what became of the job.
      const how = ended === 'unrecorded' ? failed : { ...failed, outcome };
      const name = this.reader.commands.queue;
      return { type: 'queues.process', name, outcome, ...how, ended, deliveries };
    });
  }

  /** Resolves with what the handler threw, if it did. Its lease is renewed meanwhile. */
  private async run(taken: TakenJob<T>, operation: Operation): Promise<{ error: unknown } | undefined> {
    const { leaseMs } = this.reader.terms;
    const stopRenewing = keepRenewed({
      leaseMs,
      askedAt: taken.askedAt,
      renew: async () => {
        // The handler may be ending it, which may fail.
        await taken.ending?.advanced.catch(() => undefined);
        return await taken.extend(leaseMs, { timeoutMs: Math.ceil(leaseMs / 3), propagation: 'outside' });
      },
      lost: () => taken.loseUnlessEnded(),
    });
    this.running.set(taken, { operation, stopRenewing });
    try {
      await this.handler(taken.job);
      return undefined;
    } catch (error) {
      return { error };
    } finally {
      stopRenewing();
    }
  }

  private async release(taken: TakenJob<T>, operation: Operation): Promise<undefined> {
    try {
      await taken.end(Verdict.Release, undefined, {
        timeoutMs: RELEASE_TIMEOUT_MS,
        propagation: 'outside',
      });
      // The handler may have ended it before.
      const { verdict, advanced } = taken.ending!;
      this.tell(operation, taken, endOf(verdict, (await advanced).settled));
    } catch (error) {
      // It comes back when its lease ends.
      this.tell(operation, taken, 'unrecorded', { error });
    }
    taken.abandon();
  }

  private report(taken: TakenJob<T>, settled: Settled, failure: { error: unknown } | undefined): void {
    const { id, deliveries } = taken.delivery;
    const job = `Job ${id} of queue ${this.name}`;
    if (settled === Settled.Lost) {
      this.logger.warn(`${job} lost its lease before it ended, and is delivered again`);
    } else if (failure) {
      const how = `${job} failed at delivery ${deliveries} of ${this.reader.terms.maxDeliveries}`;
      const stack = failure.error instanceof Error ? failure.error.stack : undefined;
      if (settled === Settled.Dead) this.logger.error(`${how} and is in the dead letters`, stack);
      else this.logger.warn(`${how}: ${messageOf(failure.error)}`);
    }
  }

  /** A logger that fails, or an error that has no text, must not cost the job that was taken meanwhile. */
  private log(write: () => void): void {
    try {
      write();
    } catch {
      // There is nobody left to tell.
    }
  }

  private get name(): string {
    return describe(this.reader.commands.queue);
  }
}

const ENDS = {
  [Verdict.Ack]: 'acknowledged',
  [Verdict.Retry]: 'retried',
  [Verdict.Release]: 'released',
  [Verdict.Bury]: 'dead',
} as const;

function endOf(verdict: Verdict, settled: Settled): QueueProcessEvent['ended'] {
  if (settled === Settled.Lost) return 'lost';
  return settled === Settled.Dead ? 'dead' : ENDS[verdict];
}

function messageOf(error: unknown): string {
  try {
    return error instanceof Error ? `${error.name}: ${error.message}` : `threw ${describe(error)}`;
  } catch {
    return 'threw what has no text';
  }
}
