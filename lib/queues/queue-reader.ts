import { Deadline } from '../redis/deadline.js';
import { Verdict, type Delivery, type Settled } from './advance.script.js';
import type { Settlement, Take, Terms } from './advances.js';
import type { Arrivals } from './arrivals.js';
import type { PayloadFormat } from './payload-format.js';
import type { QueueCommands } from './queue-commands.js';
import { TakenJob } from './queue-job.js';
import type { QueueCallOptions } from './queue.options.js';

/** What became of a delivery, and the job taken. */
export interface Advanced<T> {
  /** `done` where there was none to end. */
  readonly settled: Settled;
  readonly next: TakenJob<T> | undefined;
}

export interface TakeCall extends QueueCallOptions {
  /** How long to wait for a job; 0 for not at all. */
  waitMs: number;
  leaseMs?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** Takes and ends jobs of one queue, with payloads of one format. */
export class QueueReader<T> {
  constructor(
    /** Held as a whole: it is the process's share in the queue for as long as anybody has it. */
    private readonly share: { readonly commands: QueueCommands; readonly arrivals: Arrivals },
    private readonly format: PayloadFormat,
    readonly terms: Terms,
  ) {}

  get commands(): QueueCommands {
    return this.share.commands;
  }

  async take({ waitMs, leaseMs, signal, ...options }: TakeCall): Promise<TakenJob<T> | undefined> {
    const until = Deadline.in(waitMs);
    const terms = leaseMs === undefined ? this.terms : { ...this.terms, leaseMs };
    signal?.throwIfAborted();
    for (;;) {
      if (this.commands.isReclaimDue) await this.commands.reclaim();
      const { next } = await this.advance(undefined, { willWait: waitMs > 0 }, options, terms);
      if (next || until.passed) return next;
      if (!(await this.share.arrivals.turn(until, signal))) return undefined;
    }
  }

  async extend(delivery: Delivery, leaseMs: number | undefined, options: QueueCallOptions): Promise<boolean> {
    return await this.commands.extend(delivery, leaseMs ?? this.terms.leaseMs, options);
  }

  /** Ends a delivery, takes a job without waiting for one, or both. */
  async advance(
    settlement: Settlement | undefined,
    take: Take | undefined,
    options: QueueCallOptions,
    terms = this.terms,
  ): Promise<Advanced<T>> {
    let askedAt = performance.now();
    let { settled, taken } = await this.commands.advance(settlement, take, terms, options);
    for (;;) {
      if (!taken) return { settled, next: undefined };
      const next = this.read(taken, askedAt);
      if (next instanceof TakenJob) return { settled, next };
      const bury: Settlement = { verdict: Verdict.Bury, delivery: taken, failure: next.failure };
      askedAt = performance.now();
      try {
        ({ taken } = await this.commands.advance(bury, take, terms, options));
      } catch (error) {
        // What was ended before is ended; this one comes back when its lease ends.
        if (settlement) return { settled, next: undefined };
        throw error;
      }
    }
  }

  /** A job whose payload cannot be read would be taken again and again: it goes to the dead letters. */
  private read(taken: Delivery, askedAt: number): TakenJob<T> | { failure: string } {
    try {
      return new TakenJob(this, taken, this.format.decode(taken.payload) as T, askedAt);
    } catch (error) {
      return { failure: `its payload could not be read: ${(error as Error).message}` };
    }
  }
}
