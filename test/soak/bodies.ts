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
import type { BodiesJob } from './bodies.worker.js';
import { judgeBodies, type BodiesVerdict, type Chain } from './bodies-verdict.js';
import {
  FaultInjector,
  RESTART,
  serverFaults,
  whenDelivered,
  whenMet,
  type FaultCount,
  type FaultKind,
} from './faults.js';
import { soakedChain, soakedKeys, type ChainReport } from './random-body.js';
import { integerBetween, seededRandom } from './random.js';

export interface BodiesOptions {
  /** Applied links, at least. */
  transactions: number;
  /** That struck, at least. */
  faults: number;
  /** Of the server, by kill -9. */
  restarts: number;
  seed: number;
  /** After this it ends, whatever was reached. */
  limitMs: number;
}

export interface BodiesReport extends BodiesVerdict {
  readonly faults: readonly FaultCount[];
  readonly struck: number;
  readonly elapsedMs: number;
}

const WORKERS = 2;
const CALLERS = 24;
/** Milliseconds from one fault to the next. */
const PACE = { least: 5, most: 60 };
const LATE_MS = 700;
/** For calls under way at the end. */
const ENDING_MS = 30_000;

/**
 * Transactions whose bodies are made up at random: they read side by side, are joined side by side, have others of their own inside, change what they have given,
 * do not wait for all that they have begun, and end close to their deadlines. Each adds a link to the chain of each of its keys; the chains are
 * compared with what the callers were told.
 */
export async function soakBodies(options: BodiesOptions): Promise<BodiesReport> {
  // Synced before it is answered: what was acknowledged survives a crash.
  const args = ['--appendonly', 'yes', '--appendfsync', 'always'];
  const server = await startRedisServer({ binary: process.env['TEST_REDIS_BINARY'], args });
  const admin = new Redis(server.url, { maxRetriesPerRequest: null, retryStrategy: () => 20 });
  admin.on('error', () => {});
  const proxies = await Promise.all(
    Array.from({ length: WORKERS }, () => startFaultProxy({ target: server })),
  );
  const data: BodiesJob = { urls: proxies.map(({ url }) => url), callers: CALLERS, seed: options.seed };
  const script = join(__dirname, 'bodies.worker.ts');
  const workers = proxies.map((_, index) =>
    startWorker<ChainReport[]>({ script, data, index, timeoutMs: options.limitMs + ENDING_MS }),
  );
  try {
    await Promise.all(workers.map((worker) => worker.next()));
    return await soak({ server, admin, proxies, workers }, options);
  } finally {
    server.resume();
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
  readonly workers: readonly WorkerProcess<ChainReport[]>[];
}

async function soak(scene: Scene, options: BodiesOptions): Promise<BodiesReport> {
  const { admin, workers } = scene;
  const random = seededRandom(options.seed);
  const faults = new FaultInjector(kindsOfFaults(scene, random), random);
  const startedAt = performance.now();
  let stopped = false;
  const linksNow = async (): Promise<number> => {
    const lengths = await Promise.all(soakedKeys.map((key) => admin.llen(soakedChain(key))));
    return lengths.reduce((sum, length) => sum + length, 0);
  };
  const injecting = (async () => {
    let restarts = 0;
    while (!stopped && performance.now() - startedAt < options.limitMs) {
      const links = await linksNow();
      if (links >= options.transactions && faults.struck >= options.faults) break;
      if (
        restarts < options.restarts &&
        links > (options.transactions * (restarts + 1)) / (options.restarts + 1)
      ) {
        restarts++;
        await faults.inject(RESTART);
      }
      await faults.injectNext();
      await sleep(integerBetween(random, PACE.least, PACE.most));
    }
  })();
  const results = Promise.all(workers.map(({ result }) => result));
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
  const chains = soakedKeys.map(async (key): Promise<Chain> => {
    const [last, links] = await Promise.all([admin.get(key), admin.lrange(soakedChain(key), 0, -1)]);
    return { key, last: last ?? '', links };
  });
  const verdict = judgeBodies(reports, await Promise.all(chains));
  return { ...verdict, faults: faults.counts, struck: faults.struck, elapsedMs };
}

function kindsOfFaults({ server, admin, proxies }: Scene, random: () => number) {
  const proxy = (): FaultProxy => proxies[integerBetween(random, 0, proxies.length - 1)]!;
  const on = (name: string) => ({ match: (command: RedisCommand): boolean => command.name === name });
  const longMs = (): number => integerBetween(random, 30, LATE_MS);
  return {
    'EXEC: reply lost': { times: 10, inject: () => whenMet(proxy().loseReplies(on('EXEC'))) },
    'cut before the server': {
      times: 10,
      inject: () =>
        whenMet(
          proxy().cutBeforeServer(on(['WATCH', 'GET', 'MULTI', 'EXEC'][integerBetween(random, 0, 3)]!)),
        ),
    },
    [`EXEC ${LATE_MS} ms late`]: {
      times: 10,
      inject: () => whenDelivered(proxy().deliverLate(LATE_MS, on('EXEC'))),
    },
    'WATCH answered late': {
      times: 5,
      inject: () => whenMet(proxy().delay({ ...on('WATCH'), replyMs: longMs() })),
    },
    'EXEC held up': {
      times: 5,
      inject: () => whenMet(proxy().delay({ ...on('EXEC'), requestMs: longMs() })),
    },
    'network interrupted': {
      times: 3,
      inject: async () => {
        const one = proxy();
        one.pause();
        await sleep(longMs());
        one.resume();
        return true;
      },
    },
    'server stopped and resumed': {
      times: 3,
      inject: async () => {
        server.pause();
        await sleep(longMs());
        server.resume();
        return true;
      },
    },
    'CLIENT PAUSE': {
      times: 2,
      inject: async () => (await admin.call('CLIENT', 'PAUSE', longMs(), 'ALL')) === 'OK',
    },
    ...serverFaults(server, admin),
  } satisfies Record<string, FaultKind>;
}
