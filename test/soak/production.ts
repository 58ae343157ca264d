import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { AtomicRedis } from '../../lib/index.js';
import { startApp } from '../support/app.js';
import { startFailoverPair } from '../support/failover-pair.js';
import { allow, PRODUCTION_FAULTS, startPlainAddress, type Production } from './production-faults.js';
import { ProductionLoads, type LoadVerdict } from './production-loads.js';
import { seededRandom, shuffled } from './random.js';

export interface ProductionOptions {
  /** Each round has every fault once, in another order. */
  rounds: number;
  seed: number;
  /** No round begins after this. */
  limitMs: number;
  /** Plain ioredis gets this long to recover; then it is connected again. */
  plainLimitMs: number;
  /** Called for each recovery. */
  tell?: (line: string) => void;
}

/**
 * Time from a fault's end until calls succeeded again, in milliseconds; `Infinity` if they did not
 * in time.
 */
export interface Recovery {
  readonly fault: string;
  readonly times: number;
  readonly p50: number;
  readonly max: number;
  readonly plainP50: number;
  readonly plainMax: number;
}

export interface ProductionReport {
  readonly rounds: number;
  readonly recoveries: readonly Recovery[];
  readonly verdicts: readonly LoadVerdict[];
  readonly examples: readonly string[];
  readonly elapsedMs: number;
}

/** A service that has not recovered by then is reported with this time. */
const GIVE_UP_MS = 30_000;

/** Every service has succeeded once by then, before the first fault. */
const BOOT_MS = 30_000;

/** Between a recovery and the next fault. */
const QUIET_MS = 200;

/**
 * Every service is under load while a day's faults of production strike one address, again and
 * again.
 */
export async function soakProduction(options: ProductionOptions): Promise<ProductionReport> {
  const pair = await startFailoverPair();
  const production: Production = { pair, plainAddress: await startPlainAddress(pair), password: '' };
  await allow(production, 'first');
  const { address } = pair;
  const app = await startApp({
    connection: { host: address.host, port: address.port },
    username: 'app',
    password: () => production.password,
    timeoutMs: GIVE_UP_MS,
    transactions: { timeoutMs: GIVE_UP_MS },
    idempotency: { timeoutMs: GIVE_UP_MS },
  });
  const loads = new ProductionLoads(app.get(AtomicRedis));
  const plain = new PlainClient(production.plainAddress.url);
  const startedAt = performance.now();
  const times = new Map<string, { library: number[]; plain: number[] }>();
  const random = seededRandom(options.seed);
  let rounds = 0;
  try {
    await loads.start(pair.master.client);
    if ((await timeOf(loads.recovered(), BOOT_MS)) >= BOOT_MS)
      throw new Error(
        `before any fault no call succeeded of: ${loads.notRecovered.join(', ')}; ${loads.examples.join('; ')}`,
      );
    for (; rounds < options.rounds && performance.now() - startedAt < options.limitMs; rounds++) {
      for (const [fault, strike] of shuffled(random, Object.entries(PRODUCTION_FAULTS))) {
        await strike(production);
        const [library, plainMs] = await Promise.all([
          timeOf(loads.recovered(), GIVE_UP_MS),
          timeOf(plain.recovered(), options.plainLimitMs),
        ]);
        const hasPlainRecovered = plainMs < options.plainLimitMs;
        if (!hasPlainRecovered) plain.reconnect();
        const left = library < GIVE_UP_MS ? '' : `, without ${loads.notRecovered.join(', ')}`;
        options.tell?.(`${fault}: ${library} ms, ioredis ${plainMs} ms${left}`);
        const known = times.get(fault) ?? { library: [], plain: [] };
        known.library.push(library);
        known.plain.push(hasPlainRecovered ? plainMs : Infinity);
        times.set(fault, known);
        await sleep(QUIET_MS);
      }
    }
    await loads.end();
    return {
      rounds,
      recoveries: [...times].map(([fault, { library, plain: plainTimes }]) => ({
        fault,
        times: library.length,
        p50: middleOf(library),
        max: Math.max(...library),
        plainP50: middleOf(plainTimes),
        plainMax: Math.max(...plainTimes),
      })),
      verdicts: await loads.verdicts(pair.master.client),
      examples: loads.examples,
      elapsedMs: performance.now() - startedAt,
    };
  } finally {
    await loads.end();
    plain.end();
    await app.close();
    await production.plainAddress.stop();
    await pair.stop();
  }
}

/**
 * Nothing was doubled, lost or told in no words that the library has, and every fault was recovered
 * from.
 */
export const wrongInProduction = ({ recoveries, verdicts }: ProductionReport): string[] => [
  ...verdicts
    .filter(({ doubled, lost, unexpected }) => doubled + lost + unexpected > 0)
    .map((verdict) => JSON.stringify(verdict)),
  ...recoveries.filter(({ max }) => max >= GIVE_UP_MS).map(({ fault }) => `no recovery from: ${fault}`),
];

/** ioredis as it is installed, with its defaults. */
class PlainClient {
  private readonly redis: Redis;
  private isEnding = false;
  private waiting: (() => void)[] = [];

  constructor(url: string) {
    this.redis = new Redis(url);
    this.redis.on('error', () => undefined);
    void this.keepBusy();
  }

  recovered(): Promise<void> {
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  reconnect(): void {
    this.redis.disconnect(true);
  }

  end(): void {
    this.isEnding = true;
    this.redis.disconnect();
  }

  private async keepBusy(): Promise<void> {
    while (!this.isEnding) {
      const waiting = this.waiting.splice(0);
      const isDone = await this.redis.incr('plain').then(
        () => true,
        () => false,
      );
      if (isDone) for (const resolve of waiting) resolve();
      else this.waiting.push(...waiting);
      await sleep(10);
    }
  }
}

async function timeOf(recovered: Promise<void>, limitMs: number): Promise<number> {
  const began = performance.now();
  const giveUp = new AbortController();
  await Promise.race([
    recovered,
    sleep(limitMs, undefined, { signal: giveUp.signal }).catch(() => undefined),
  ]);
  giveUp.abort();
  return Math.round(performance.now() - began);
}

const middleOf = (times: readonly number[]): number =>
  times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0;
