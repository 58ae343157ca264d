import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Fault, FaultProxy, RedisServer } from '../../lib/testing/index.js';
import type { WorkerProcess } from '../support/workers.js';
import { integerBetween, shuffled } from './random.js';

/** A fault that waits for a command to meet it. */
export interface SetFault {
  readonly fault: Fault;
  /** True if it did harm; resolves once it was met, or later. */
  readonly struck: Promise<boolean>;
}

/** One way to do harm. */
export interface FaultKind {
  /** Number of copies in a pack; a fault with 0 is injected only by name. */
  readonly times: number;
  /** Sets a fault; or does harm at once, and tells whether it did any. */
  readonly inject: () => SetFault | Promise<boolean>;
}

/** Strikes when a command meets it. */
export const whenMet = (fault: Fault): SetFault => ({
  fault,
  struck: fault.triggered.then(() => true),
});

/** Strikes when the server gets what was held up. */
export const whenDelivered = (fault: ReturnType<FaultProxy['deliverLate']>): SetFault => ({
  fault,
  struck: fault.delivered,
});

export const RESTART = 'kill -9 and restart';

/**
 * Faults of the server itself. Kills of connections are rare, because they also destroy messages
 * that are still to be delivered late.
 */
export const serverFaults = (server: RedisServer, admin: Redis) =>
  ({
    'SCRIPT FLUSH': { times: 4, inject: async () => (await admin.script('FLUSH')) === 'OK' },
    'CLIENT KILL': {
      times: 1,
      inject: async () => (await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')) !== 0,
    },
    [RESTART]: {
      times: 0,
      inject: async () => {
        await server.kill();
        await server.restart();
        return true;
      },
    },
  }) satisfies Record<string, FaultKind>;

/** The most of a run's progress where something else is not reached yet. */
export const BELOW_ALL = 0.999;

export interface Injecting {
  /** Faults of the server by kill -9, spread over the run. */
  readonly restarts: number;
  /** Milliseconds from one fault to the next. */
  readonly pace: { readonly least: number; readonly most: number };
  /** Returns the finished part of the work, from 0 to 1. */
  readonly progress: () => Promise<number>;
  /** There are no faults at all. */
  readonly isCalm: boolean;
  /** After this it ends, whatever was reached. */
  readonly limitMs: number;
  /** Delay of requests that are held up. */
  readonly lateMs: number;
}

export interface FaultCount {
  readonly kind: string;
  readonly injected: number;
  readonly struck: number;
}

interface Tally {
  injected: number;
  struck: number;
}

/**
 * Does one fault after the other. A pack of them is dealt to its end before the next, so that none
 * is left out.
 */
export class FaultInjector<Kind extends string> {
  private readonly tallies: ReadonlyMap<Kind, Tally>;
  private pack: Kind[] = [];
  private readonly armed = new Set<Fault>();
  private readonly deliveries = new Set<Promise<boolean>>();

  constructor(
    private readonly kinds: Readonly<Record<Kind, FaultKind>>,
    private readonly random: () => number,
  ) {
    this.tallies = new Map(this.names().map((kind) => [kind, { injected: 0, struck: 0 }]));
  }

  get struck(): number {
    return [...this.tallies.values()].reduce((sum, { struck }) => sum + struck, 0);
  }

  /** True if faults of every kind in a pack have struck. */
  get hasStruckWithAll(): boolean {
    return [...this.tallies].every(([kind, { struck }]) => struck > 0 || this.kinds[kind].times === 0);
  }

  get counts(): FaultCount[] {
    return [...this.tallies].map(([kind, tally]) => ({ kind, ...tally }));
  }

  async injectNext(): Promise<void> {
    if (this.pack.length === 0) {
      const all = this.names().flatMap((kind) => Array.from({ length: this.kinds[kind].times }, () => kind));
      this.pack = shuffled(this.random, all);
    }
    await this.inject(this.pack.pop()!);
  }

  async inject(kind: Kind): Promise<void> {
    const tally = this.tallies.get(kind)!;
    tally.injected++;
    const fault = await this.kinds[kind].inject();
    if (typeof fault === 'object') void this.arm(fault, tally);
    else if (fault) tally.struck++;
  }

  /**
   * Cancels what has struck nothing yet. Resolves once everything late has been delivered, or can
   * no longer be, `lateMs` after it was held up.
   */
  async end(lateMs: number): Promise<void> {
    for (const fault of this.armed) fault.cancel();
    // A delivery to a server that was gone when the request was struck is never reported.
    await Promise.race([Promise.all(this.deliveries), sleep(lateMs + 1_000)]);
  }

  private names(): Kind[] {
    return Object.keys(this.kinds) as Kind[];
  }

  private async arm({ fault, struck }: SetFault, tally: Tally): Promise<void> {
    this.armed.add(fault);
    await fault.triggered;
    this.armed.delete(fault);
    this.deliveries.add(struck);
    if (await struck) tally.struck++;
    this.deliveries.delete(struck);
  }
}

/**
 * Injects one fault after the other while workers are busy, until all is reached; then tells the
 * workers to stop.
 * @returns what they report, and how long it took
 */
export async function injectWhile<Report, Kind extends string>(
  workers: readonly WorkerProcess<Report[]>[],
  faults: FaultInjector<Kind | typeof RESTART>,
  random: () => number,
  { restarts, pace, progress, isCalm, limitMs, lateMs }: Injecting,
): Promise<{ readonly reports: Report[]; readonly elapsedMs: number }> {
  const startedAt = performance.now();
  let stopped = false;
  const injecting = (async () => {
    let restarted = 0;
    while (!stopped && performance.now() - startedAt < limitMs) {
      const reached = await progress();
      if (reached >= 1) break;
      if (restarted < restarts && reached > (restarted + 1) / (restarts + 1)) {
        restarted++;
        await faults.inject(RESTART);
      }
      if (!isCalm) await faults.injectNext();
      await sleep(integerBetween(random, pace.least, pace.most));
    }
  })();
  const results = Promise.all(workers.map(({ result }) => result));
  // Also when the faults come to grief first, and the workers are killed.
  results.catch(() => {});
  try {
    // A worker that ends early has failed.
    await Promise.race([injecting, results]);
  } finally {
    stopped = true;
    await injecting;
  }
  const elapsedMs = performance.now() - startedAt;
  for (const worker of workers) worker.send({ stop: true });
  const reports = (await results).flat();
  await faults.end(lateMs);
  return { reports, elapsedMs };
}
