import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Fault, FaultProxy, LateFault, RedisCommand, RedisServer } from '../../lib/testing/index.js';
import { integerBetween, shuffled } from './random.js';

/** Long enough for a transaction that runs again, or for its caller's next one, to be done by then. */
const LATE_MS = 800;

/** A pack of faults is dealt to its end before the next. Kills are rare: they take with them what is still to be delivered late. */
const PACK = {
  'EXEC: reply lost': 25,
  'cut before EXEC': 25,
  [`EXEC ${LATE_MS} ms late`]: 30,
  'SCRIPT FLUSH': 4,
  'CLIENT PAUSE': 2,
  'CLIENT KILL': 1,
};
const RESTART = 'kill -9 and restart';

export interface FaultCount {
  readonly kind: string;
  readonly injected: number;
  /** A transaction's command met it; for a late EXEC: the server got it; for CLIENT KILL: a connection was killed. */
  readonly struck: number;
}

interface Tally {
  injected: number;
  struck: number;
}

/** Does one fault after the other to workers that reach the server through a proxy each. */
export class FaultInjector {
  private readonly tallies = new Map<string, Tally>(
    [...Object.keys(PACK), RESTART].map((kind) => [kind, { injected: 0, struck: 0 }]),
  );
  private pack: string[] = [];
  private readonly armed = new Set<Fault>();
  private readonly deliveries = new Set<Promise<boolean>>();

  constructor(
    private readonly server: RedisServer,
    private readonly proxies: readonly FaultProxy[],
    /** To the server itself, past the proxies. */
    private readonly admin: Redis,
    private readonly random: () => number,
  ) {}

  get struck(): number {
    return [...this.tallies.values()].reduce((sum, { struck }) => sum + struck, 0);
  }

  /** Whether faults of every kind have struck. */
  get hasStruckWithAll(): boolean {
    return [...this.tallies].every(([kind, { struck }]) => struck > 0 || kind === RESTART);
  }

  get counts(): FaultCount[] {
    return [...this.tallies].map(([kind, tally]) => ({ kind, ...tally }));
  }

  async injectNext(): Promise<void> {
    if (this.pack.length === 0) {
      const kinds = Object.entries(PACK).flatMap(([kind, times]) =>
        Array.from({ length: times }, () => kind),
      );
      this.pack = shuffled(this.random, kinds);
    }
    const kind = this.pack.pop()!;
    const tally = this.tallies.get(kind)!;
    tally.injected++;
    const proxy = this.proxies[integerBetween(this.random, 0, this.proxies.length - 1)]!;
    switch (kind) {
      case 'EXEC: reply lost':
        return void this.arm(proxy.loseReplies(named('EXEC')), tally);
      case 'cut before EXEC':
        // Between the reads and MULTI, or with all of the transaction but EXEC at the server.
        return void this.arm(proxy.cutBeforeServer(named(this.random() < 0.5 ? 'MULTI' : 'EXEC')), tally);
      case 'SCRIPT FLUSH':
        await this.admin.script('FLUSH');
        tally.struck++;
        return;
      case 'CLIENT PAUSE':
        await this.admin.call('CLIENT', 'PAUSE', integerBetween(this.random, 10, 100), 'ALL');
        tally.struck++;
        return;
      case 'CLIENT KILL':
        if ((await this.admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')) !== 0)
          tally.struck++;
        return;
      default:
        void this.deliverLate(proxy.deliverLate(LATE_MS, named('EXEC')), tally);
    }
  }

  async restart(): Promise<void> {
    const tally = this.tallies.get(RESTART)!;
    tally.injected++;
    await this.server.kill();
    await this.server.restart();
    tally.struck++;
  }

  /** Cancels what has struck nothing yet. Resolves once every late EXEC has been delivered, or can no longer be. */
  async end(): Promise<void> {
    for (const fault of this.armed) fault.cancel();
    // A delivery to a server that was gone when EXEC was struck is never told of.
    await Promise.race([Promise.all(this.deliveries), sleep(LATE_MS + 1_000)]);
  }

  private async arm(fault: Fault, tally: Tally): Promise<void> {
    this.armed.add(fault);
    await fault.triggered;
    this.armed.delete(fault);
    tally.struck++;
  }

  private async deliverLate(fault: LateFault, tally: Tally): Promise<void> {
    this.armed.add(fault);
    await fault.triggered;
    this.armed.delete(fault);
    this.deliveries.add(fault.delivered);
    if (await fault.delivered) tally.struck++;
    this.deliveries.delete(fault.delivered);
  }
}

const named = (name: string) => ({ match: (command: RedisCommand): boolean => command.name === name });
