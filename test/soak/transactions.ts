import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import {
  startFaultProxy,
  startRedisServer,
  type FaultProxy,
  type RedisCommand,
  type RedisServer,
} from '../../lib/testing/index.js';
import { startWorker, type WorkerProcess } from '../support/workers.js';
import { accountKey, ACCOUNTS, AUDIT_KEY, OPENING_BALANCE } from './bank.js';
import type { CallReport } from './calls.js';
import {
  FaultInjector,
  RESTART,
  serverFaults,
  whenDelivered,
  whenMet,
  type FaultCount,
  type FaultKind,
} from './faults.js';
import { integerBetween, seededRandom } from './random.js';
import type { TransferJob } from './transfers.worker.js';
import { judge, type Verdict } from './verdict.js';

export interface SoakOptions {
  /** Applied ones, at least. */
  transactions: number;
  /** That struck, at least. */
  faults: number;
  /** Of the server, by kill -9. */
  restarts: number;
  seed: number;
  /** After this it ends, whatever was reached. */
  limitMs: number;
}

export interface SoakReport extends Verdict {
  readonly faults: readonly FaultCount[];
  readonly struck: number;
  readonly elapsedMs: number;
}

const WORKERS = 4;
const CALLERS = 16;
/** Milliseconds from one fault to the next. */
const PACE = { least: 2, most: 20 };
/** Long enough for a transaction that runs again, or for its caller's next one, to be done by then. */
const LATE_MS = 800;
/** For calls under way at the end, whose time-out is 30 s. */
const ENDING_MS = 45_000;

/** Transfers among accounts by several processes, while faults are injected, until as many of both were seen as asked for. */
export async function soakTransactions(options: SoakOptions): Promise<SoakReport> {
  // Synced before it is answered: what was acknowledged survives a crash.
  const args = ['--appendonly', 'yes', '--appendfsync', 'always'];
  const server = await startRedisServer({ binary: process.env['TEST_REDIS_BINARY'], args });
  const admin = new Redis(server.url, { maxRetriesPerRequest: null, retryStrategy: () => 20 });
  // It is restarted on purpose.
  admin.on('error', () => {});
  const proxies = await Promise.all(
    Array.from({ length: WORKERS }, () => startFaultProxy({ target: server })),
  );
  let workers: WorkerProcess<CallReport[]>[] = [];
  try {
    await open(admin);
    workers = startWorkers(proxies, options);
    await Promise.all(workers.map((worker) => worker.next()));
    return await soak({ server, admin, proxies, workers }, options);
  } finally {
    await Promise.all(workers.map((worker) => worker.kill()));
    admin.disconnect();
    await Promise.all(proxies.map((proxy) => proxy.stop()));
    await server.stop();
  }
}

interface Scene {
  readonly server: RedisServer;
  readonly admin: Redis;
  readonly proxies: readonly FaultProxy[];
  readonly workers: readonly WorkerProcess<CallReport[]>[];
}

async function soak(scene: Scene, options: SoakOptions): Promise<SoakReport> {
  const { admin, workers } = scene;
  const random = seededRandom(options.seed);
  const faults = new FaultInjector(kindsOfFaults(scene, random), random);
  const startedAt = performance.now();
  let stopped = false;
  const injecting = (async () => {
    let restarts = 0;
    while (!stopped && performance.now() - startedAt < options.limitMs) {
      const applied = await admin.llen(AUDIT_KEY);
      const reached = applied >= options.transactions && faults.struck >= options.faults;
      if (reached && faults.hasStruckWithAll) break;
      // Spread over the run.
      if (
        restarts < options.restarts &&
        applied > (options.transactions * (restarts + 1)) / (options.restarts + 1)
      ) {
        restarts++;
        await faults.inject(RESTART);
      }
      await faults.injectNext();
      await sleep(integerBetween(random, PACE.least, PACE.most));
    }
  })();
  const results = Promise.all(workers.map(({ result }) => result));
  // Also when the faults come to grief first, and the workers are killed.
  results.catch(() => {});
  try {
    // A worker that ends before it is told to has failed.
    await Promise.race([injecting, results]);
  } finally {
    stopped = true;
    await injecting;
  }
  const elapsedMs = performance.now() - startedAt;
  for (const worker of workers) worker.send({ stop: true });
  const reports = (await results).flat();
  await faults.end(LATE_MS);
  const balances = await admin.mget(accountKeys());
  const verdict = judge(reports, await admin.lrange(AUDIT_KEY, 0, -1), balances.map(Number));
  return { ...verdict, faults: faults.counts, struck: faults.struck, elapsedMs };
}

function kindsOfFaults({ server, admin, proxies }: Scene, random: () => number) {
  const proxy = (): FaultProxy => proxies[integerBetween(random, 0, proxies.length - 1)]!;
  const on = (name: string) => ({ match: (command: RedisCommand): boolean => command.name === name });
  return {
    'EXEC: reply lost': { times: 25, inject: () => whenMet(proxy().loseReplies(on('EXEC'))) },
    'cut before EXEC': {
      times: 25,
      // Between the reads and MULTI, or with all of the transaction but EXEC at the server.
      inject: () => whenMet(proxy().cutBeforeServer(on(random() < 0.5 ? 'MULTI' : 'EXEC'))),
    },
    [`EXEC ${LATE_MS} ms late`]: {
      times: 30,
      inject: () => whenDelivered(proxy().deliverLate(LATE_MS, on('EXEC'))),
    },
    'CLIENT PAUSE': {
      times: 2,
      inject: async () =>
        (await admin.call('CLIENT', 'PAUSE', integerBetween(random, 10, 100), 'ALL')) === 'OK',
    },
    ...serverFaults(server, admin),
  } satisfies Record<string, FaultKind>;
}

function startWorkers(proxies: readonly FaultProxy[], { seed, limitMs }: SoakOptions) {
  const script = join(__dirname, 'transfers.worker.ts');
  const data: TransferJob = { urls: proxies.map(({ url }) => url), callers: CALLERS, seed };
  const timeoutMs = limitMs + ENDING_MS;
  return proxies.map((_, index) => startWorker<CallReport[]>({ script, data, index, timeoutMs }));
}

const accountKeys = (): string[] => Array.from({ length: ACCOUNTS }, (_, account) => accountKey(account));

async function open(admin: Redis): Promise<void> {
  await admin.mset(accountKeys().flatMap((key) => [key, OPENING_BALANCE]));
}
