import { join } from 'node:path';
import type { Redis } from 'ioredis';
import type { FaultProxy, RedisCommand } from '../../lib/testing/index.js';
import { withFaultyServer, type FaultyServer } from '../support/faulty-server.js';
import { nowUs } from '../histories/history.js';
import { noteOperation, startRecording, type Recording } from '../histories/recorder.js';
import { accountKey, ACCOUNTS, AUDIT_KEY, OPENING_BALANCE, parseEntry } from './bank.js';
import type { CallReport } from './calls.js';
import type { CallingJob } from './calling-worker.js';
import {
  BELOW_ALL,
  FaultInjector,
  injectWhile,
  serverFaults,
  whenDelivered,
  whenMet,
  type FaultKind,
} from './faults.js';
import { integerBetween, seededRandom } from './random.js';
import { historyOf } from './reproduce.js';
import type { TransactionSoakOptions, TransactionSoakRun } from './soak-options.js';
import { judge, type Verdict } from './verdict.js';

export interface SoakReport extends Verdict, TransactionSoakRun {}

const WORKERS = 4;
const CALLERS = 16;
/** Milliseconds from one fault to the next. */
const PACE = { least: 2, most: 20 };
/**
 * Long enough for a transaction that runs again, or for its caller's next one, to be done by then.
 */
const LATE_MS = 800;
/** For calls under way at the end, whose time-out is 30 s. */
const ENDING_MS = 45_000;

/**
 * Transfers among accounts by several processes, while faults are injected, until as many of both
 * were seen as asked for.
 */
export async function soakTransactions(options: TransactionSoakOptions): Promise<SoakReport> {
  const { seed, limitMs } = options;
  const script = join(__dirname, 'transfers.worker.ts');
  const job = (urls: readonly string[]): CallingJob => ({ urls, callers: CALLERS, seed });
  const recording = startRecording();
  const setUp = { workers: WORKERS, script, job, prepare: open, timeoutMs: limitMs + ENDING_MS };
  return await withFaultyServer(setUp, (scene: Scene) => soak(scene, options, recording));
}

type Scene = FaultyServer<CallReport[]>;

async function soak(
  scene: Scene,
  options: TransactionSoakOptions,
  recording: Recording,
): Promise<SoakReport> {
  const { admin, workers } = scene;
  const random = seededRandom(options.seed);
  const faults = new FaultInjector(kindsOfFaults(scene, random), random);
  const progress = async (): Promise<number> => {
    const reached = (await admin.llen(AUDIT_KEY)) / options.transactions;
    const isAll = faults.struck >= options.faults && faults.hasStruckWithAll;
    return isAll ? reached : Math.min(reached, BELOW_ALL);
  };
  const { restarts, limitMs } = options;
  const injecting = { restarts, limitMs, isCalm: false, pace: PACE, lateMs: LATE_MS, progress };
  const { reports, elapsedMs } = await injectWhile(workers, faults, random, injecting);
  const balances = await admin.mget(accountKeys());
  const startUs = nowUs();
  const audit = await admin.lrange(AUDIT_KEY, 0, -1);
  const steps = [['read', AUDIT_KEY, audit.map((line) => parseEntry(line).id)]];
  noteOperation({ name: 'last read', model: 'list-append', args: steps }, steps, startUs);
  const verdict = judge(reports, audit, balances.map(Number));
  const history = historyOf(recording);
  return { ...verdict, history, faults: faults.counts, struck: faults.struck, elapsedMs };
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

const accountKeys = (): string[] => Array.from({ length: ACCOUNTS }, (_, account) => accountKey(account));

async function open(admin: Redis): Promise<void> {
  await admin.mset(accountKeys().flatMap((key) => [key, OPENING_BALANCE]));
}
