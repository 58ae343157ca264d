import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FaultProxy, RedisCommand } from '../../lib/testing/index.js';
import { withFaultyServer, type FaultyServer } from '../support/faulty-server.js';
import type { CallingJob } from './calling-worker.js';
import { judgeBodies, type BodiesVerdict, type Chain } from './bodies-verdict.js';
import {
  BELOW_ALL,
  FaultInjector,
  injectWhile,
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
  /** That struck, at least; without any, a healthy server must leave no outcome unknown. */
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
 * Transactions whose bodies are made up at random: they read side by side, are joined side by side,
 * have others of their own inside, change what they have given, do not wait for all that they have
 * begun, and end close to their deadlines. Each adds a link to the chain of each of its keys; the
 * chains are compared with what the callers were told.
 */
export async function soakBodies(options: BodiesOptions): Promise<BodiesReport> {
  const { seed, limitMs } = options;
  const script = join(__dirname, 'bodies.worker.ts');
  const job = (urls: readonly string[]): CallingJob => ({ urls, callers: CALLERS, seed });
  const setUp = { workers: WORKERS, script, job, timeoutMs: limitMs + ENDING_MS };
  return await withFaultyServer(setUp, (scene: Scene) => soak(scene, options));
}

type Scene = FaultyServer<ChainReport[]>;

async function soak(scene: Scene, options: BodiesOptions): Promise<BodiesReport> {
  const { admin, workers } = scene;
  const random = seededRandom(options.seed);
  const faults = new FaultInjector(kindsOfFaults(scene, random), random);
  const progress = async (): Promise<number> => {
    const lengths = await Promise.all(soakedKeys.map((key) => admin.llen(soakedChain(key))));
    const links = lengths.reduce((sum, length) => sum + length, 0);
    const reached = links / options.transactions;
    return faults.struck < options.faults ? Math.min(reached, BELOW_ALL) : reached;
  };
  const { restarts, limitMs } = options;
  const isCalm = options.faults === 0;
  const injecting = { restarts, limitMs, isCalm, pace: PACE, lateMs: LATE_MS, progress };
  const { reports, elapsedMs } = await injectWhile(workers, faults, random, injecting);
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
