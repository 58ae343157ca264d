import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FaultProxy, RedisCommand } from '../../lib/testing/index.js';
import { nowUs } from '../histories/history.js';
import { noteOperation, startRecording, type Recording } from '../histories/recorder.js';
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
  type FaultKind,
} from './faults.js';
import { soakedChain, soakedKeys, type ChainReport } from './random-body.js';
import { integerBetween, seededRandom } from './random.js';
import { historyOf } from './reproduce.js';
import type { TransactionSoakOptions, TransactionSoakRun } from './soak-options.js';

export interface BodiesReport extends BodiesVerdict, TransactionSoakRun {}

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
 * chains are compared with the callers' answers.
 */
export async function soakBodies(options: TransactionSoakOptions): Promise<BodiesReport> {
  const { seed, limitMs } = options;
  const script = join(__dirname, 'bodies.worker.ts');
  const job = (urls: readonly string[]): CallingJob => ({ urls, callers: CALLERS, seed });
  const recording = startRecording();
  const setUp = { workers: WORKERS, script, job, timeoutMs: limitMs + ENDING_MS };
  return await withFaultyServer(setUp, (scene: Scene) => soak(scene, options, recording));
}

type Scene = FaultyServer<ChainReport[]>;

async function soak(
  scene: Scene,
  options: TransactionSoakOptions,
  recording: Recording,
): Promise<BodiesReport> {
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
  const startUs = nowUs();
  const found = await Promise.all(chains);
  const steps = found.map(({ key, links }) => ['read', soakedChain(key), links.map(tokenOf)]);
  noteOperation({ name: 'last read', model: 'list-append', args: steps }, steps, startUs);
  const verdict = judgeBodies(reports, found);
  const history = historyOf(recording);
  return { ...verdict, history, faults: faults.counts, struck: faults.struck, elapsedMs };
}

const tokenOf = (link: string): string => link.slice(link.indexOf('>') + 1);

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
