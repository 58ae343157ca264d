import { Deadline } from '../redis/deadline.js';
import { Verdict, type Settled } from './advance.script.js';
import type { Arrivals } from './arrivals.js';
import type { PayloadFormat } from './payload-format.js';
import type { Delivery, QueueCommands, Settlement } from './queue-commands.js';
import { TakenJob } from './queue-job.js';
import type { QueueCallOptions } from './queue.options.js';

/** What is kept of why a delivery failed. */
const MAX_FAILURE_CHARS = 500;

export interface ReaderSettings {
  readonly leaseMs: number;
  readonly maxDeliveries: number;
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
    readonly settings: ReaderSettings,
  ) {}

  get commands(): QueueCommands {
    return this.share.commands;
  }

  async take({ waitMs, leaseMs, signal, ...options }: TakeCall): Promise<TakenJob<T> | undefined> {
    const until = Deadline.in(waitMs);
    signal?.throwIfAborted();
    for (;;) {
      if (this.commands.isReclaimDue) await this.commands.reclaim();
      const taken = await this.takeNow(leaseMs, waitMs > 0, options);
      if (taken || until.passed) return taken;
      if (!(await this.share.arrivals.turn(until, signal))) return undefined;
    }
  }

  async takeNow(
    leaseMs: number | undefined,
    willWait: boolean,
    options: QueueCallOptions,
  ): Promise<TakenJob<T> | undefined> {
    return (await this.advance(undefined, { leaseMs: leaseMs ?? this.settings.leaseMs, willWait }, options))
      .next;
  }

  async end(settlement: Settlement, options: QueueCallOptions): Promise<Settled> {
    return (await this.advance(settlement, undefined, options)).settled;
  }

  async endAndTake(
    settlement: Settlement,
    options: QueueCallOptions,
  ): Promise<{ settled: Settled; next: TakenJob<T> | undefined }> {
    return await this.advance(settlement, { leaseMs: this.settings.leaseMs, willWait: false }, options);
  }

  async extend(delivery: Delivery, leaseMs: number | undefined, options: QueueCallOptions): Promise<boolean> {
    return await this.commands.extend(delivery, leaseMs ?? this.settings.leaseMs, options);
  }

  /** A job whose payload cannot be read would be taken again and again: it goes to the dead letters, and the next one is taken. */
  private async advance(
    settlement: Settlement | undefined,
    take: { leaseMs: number; willWait: boolean } | undefined,
    options: QueueCallOptions,
  ): Promise<{ settled: Settled; next: TakenJob<T> | undefined }> {
    const step = async (ending: Settlement | undefined) => {
      const failure = ending?.failure?.slice(0, MAX_FAILURE_CHARS);
      const askedAt = performance.now();
      const { maxDeliveries } = this.settings;
      const answer = await this.commands.advance(
        ending && { ...ending, failure },
        take,
        maxDeliveries,
        options,
      );
      return { ...answer, askedAt };
    };
    let { settled, taken, askedAt } = await step(settlement);
    for (;;) {
      if (!taken) return { settled, next: undefined };
      let payload: T;
      try {
        payload = this.format.decode(taken.payload) as T;
      } catch (error) {
        const failure = `its payload could not be read: ${(error as Error).message}`;
        try {
          ({ taken, askedAt } = await step({ verdict: Verdict.Bury, delivery: taken, failure }));
        } catch (failed) {
          // What was ended before is ended; this one comes back when its lease ends.
          if (settlement) return { settled, next: undefined };
          throw failed;
        }
        continue;
      }
      return { settled, next: new TakenJob(this, taken, payload, askedAt) };
    }
  }
}
