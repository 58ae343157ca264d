import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { startFaultProxy, startRedisServer } from '../../lib/testing/index.js';
import { startWorker } from '../support/workers.js';
import { nowUs } from '../histories/history.js';
import { noteOperation, startRecording } from '../histories/recorder.js';
import {
  EFFECTS_KEY,
  judgeEffects,
  parseEffect,
  type IdempotencyVerdict,
  type KeyReport,
} from './effects.js';
import { FaultInjector, RESTART, type FaultCount } from './faults.js';
import { KILL, kindsOfFaults, LATE_MS, LEASE_MS, PAUSE, type Scene } from './idempotency-faults.js';
import type { CallReply, IdempotencyJob, IdempotentCall } from './idempotency.worker.js';
import { integerBetween, seededRandom } from './random.js';
import { historyOf, type SoakHistory } from './reproduce.js';
import { WorkerDied, WorkerPool } from './worker-pool.js';
import { stateOf } from '../support/idempotency-record.js';

export interface IdempotencySoakOptions {
  keys: number;
  /** Number of restarts of the server after kill -9. */
  restarts: number;
  /** Number of processes killed by kill -9. */
  kills: number;
  /** Number of processes stopped by SIGSTOP past their lease. */
  pauses: number;
  seed: number;
  /** After this no client tries again. */
  limitMs: number;
}

export interface IdempotencySoakReport extends IdempotencyVerdict {
  readonly faults: readonly FaultCount[];
  readonly struck: number;
  readonly elapsedMs: number;
  /** Number of calls without an answer, by the name of the error. */
  readonly errors: Readonly<Record<string, number>>;
  /** Errors that forbid a repetition of the call. */
  readonly final: readonly string[];
  /** Records that have no time to live, or hold no result after all. */
  readonly leftovers: number;
  readonly history: SoakHistory;
}

const WORKERS = 4;
/** Keys that are sent at the same time. */
const KEYS_AT_ONCE = 48;
const CLIENTS = { least: 3, most: 10 };
/** Milliseconds from one fault to the next. */
const PACE = { least: 20, most: 120 };
/** Bounds of a client's wait for an answer before it asks another process. */
const PATIENCE_MS = { least: 500, most: 4_000 };

/**
 * Keys, each sent several times to several processes, while faults are injected, until every client
 * has its answer.
 */
export async function soakIdempotency(options: IdempotencySoakOptions): Promise<IdempotencySoakReport> {
  const recording = startRecording();
  // Synced before it is answered: what was acknowledged survives a crash.
  const args = ['--appendonly', 'yes', '--appendfsync', 'always'];
  const server = await startRedisServer({ binary: process.env['TEST_REDIS_BINARY'], args });
  const admin = new Redis(server.url, { maxRetriesPerRequest: null, retryStrategy: () => 20 });
  // It is restarted on purpose.
  admin.on('error', () => {});
  const proxies = await Promise.all(
    Array.from({ length: WORKERS }, () => startFaultProxy({ target: server })),
  );
  const script = join(__dirname, 'idempotency.worker.ts');
  const data: IdempotencyJob = { urls: proxies.map(({ url }) => url), leaseMs: LEASE_MS };
  const timeoutMs = options.limitMs + 60_000;
  const pool = new WorkerPool<CallReply>(WORKERS, (index) => startWorker({ script, data, index, timeoutMs }));
  try {
    await pool.ready();
    const report = await new Soak({ server, admin, proxies, pool }, options).run();
    return { ...report, history: historyOf(recording) };
  } finally {
    await pool.stop();
    admin.disconnect();
    await Promise.all(proxies.map((proxy) => proxy.stop()));
    await server.stop();
  }
}

type Asked = Pick<IdempotentCall, 'key' | 'commits'>;

class Soak {
  private readonly random: () => number;
  private readonly faults: FaultInjector<string>;
  private readonly errors: Record<string, number> = {};
  private readonly final: string[] = [];
  private readonly reports: KeyReport[] = [];
  private readonly deadline: number;

  constructor(
    private readonly scene: Scene & { pool: WorkerPool<CallReply> },
    private readonly options: IdempotencySoakOptions,
  ) {
    this.random = seededRandom(options.seed);
    this.faults = new FaultInjector<string>(kindsOfFaults(scene, this.random), this.random);
    this.deadline = performance.now() + options.limitMs;
  }

  async run(): Promise<Omit<IdempotencySoakReport, 'history'>> {
    const { admin, pool } = this.scene;
    const startedAt = performance.now();
    const keys = Array.from({ length: this.options.keys }, (_, n) => `key ${n}`).values();
    const sending = Promise.all(
      Array.from({ length: KEYS_AT_ONCE }, async () => {
        // Each takes the next one.
        for (const key of keys) this.reports.push(await this.send(key));
      }),
    );
    let sent = false;
    const [, injected] = await Promise.allSettled([
      sending.finally(() => (sent = true)),
      this.inject(() => sent),
    ]);
    await sending;
    if (injected.status === 'rejected') throw injected.reason;
    const elapsedMs = performance.now() - startedAt;
    await pool.settled();
    await this.faults.end(LATE_MS);
    const startUs = nowUs();
    const effects = await admin.lrange(EFFECTS_KEY, 0, -1);
    const steps = [['read', EFFECTS_KEY, effects.map((line) => parseEffect(line).answer)]];
    noteOperation({ name: 'last read', model: 'list-append', args: steps }, steps, startUs);
    return {
      ...judgeEffects(this.reports, effects),
      faults: this.faults.counts,
      struck: this.faults.struck,
      elapsedMs,
      errors: this.errors,
      final: this.final,
      leftovers: await countLeftovers(admin),
    };
  }

  private async inject(over: () => boolean): Promise<void> {
    const { keys, restarts, kills, pauses } = this.options;
    // Spread over the run: each when so many keys are done.
    const at = (kind: string, times: number) =>
      Array.from({ length: times }, (_, i) => ({ kind, keys: (keys * (i + 1)) / (times + 1) }));
    const due = [...at(RESTART, restarts), ...at(KILL, kills), ...at(PAUSE, pauses)].toSorted(
      (a, b) => a.keys - b.keys,
    );
    while (!over()) {
      while (due[0] && due[0].keys <= this.reports.length) await this.faults.inject(due.shift()!.kind);
      await this.faults.injectNext();
      await sleep(this.between(PACE));
    }
  }

  /**
   * All but one client at about the same time, and the last one when the others have been answered.
   */
  private async send(key: string): Promise<KeyReport> {
    const answers: string[] = [];
    const commits = this.random() < 0.8;
    let unanswered = 0;
    const client = async (): Promise<void> => {
      if (!(await this.askUntilAnswered({ key, commits }, answers))) unanswered++;
    };
    const count = this.between(CLIENTS);
    await Promise.all(
      Array.from({ length: count - 1 }, async () => {
        await sleep(this.between({ least: 0, most: 150 }));
        await client();
      }),
    );
    await client();
    return { key, commits, answers, unanswered };
  }

  /**
   * Asks one process after the other, as long as an error says that it may, or none comes. Answers
   * that come late count too.
   */
  private async askUntilAnswered(of: Asked, answers: string[]): Promise<boolean> {
    let index = this.between({ least: 0, most: WORKERS - 1 });
    while (performance.now() < this.deadline) {
      const asked = this.ask(index, of, answers);
      const reply = await Promise.race([asked, this.patience()]);
      if ('answer' in reply) return true;
      this.errors[reply.error] = (this.errors[reply.error] ?? 0) + 1;
      if (!reply.retryable) {
        this.final.push(`${of.key}: ${reply.details ?? reply.error}`);
        return false;
      }
      index = (index + this.between({ least: 1, most: WORKERS - 1 })) % WORKERS;
      await sleep(this.between({ least: 5, most: 100 }));
    }
    return false;
  }

  private async ask(index: number, of: Asked, answers: string[]): Promise<CallReply> {
    try {
      const reply = await this.scene.pool.call(index, this.callOf(of));
      if ('answer' in reply) answers.push(reply.answer);
      return reply;
    } catch (error) {
      if (!(error instanceof WorkerDied)) throw error;
      return { error: error.name, retryable: true };
    }
  }

  private async patience(): Promise<CallReply> {
    await sleep(this.between(PATIENCE_MS), undefined, { ref: false });
    return { error: 'no answer in time', retryable: true };
  }

  private callOf({ key, commits }: Asked): IdempotentCall {
    const { random } = this;
    // Most runs are short, and some outlive their first lease.
    const long = random() < 0.02;
    return {
      key,
      commits,
      onDuplicate: random() < 0.5 ? 'refuse' : 'wait',
      beforeMs: long ? LEASE_MS * 1.5 : this.between({ least: 0, most: 20 }),
      insideMs: random() < 0.5 ? 0 : this.between({ least: 0, most: 50 }),
      afterMs: random() < 0.5 ? 0 : this.between({ least: 0, most: 50 }),
      fails: random() < 0.05,
    };
  }

  private between({ least, most }: { least: number; most: number }): number {
    return integerBetween(this.random, least, most);
  }
}

/** Once every lease has ended. */
async function countLeftovers(admin: Redis): Promise<number> {
  await sleep(LEASE_MS);
  let leftovers = 0;
  for await (const keys of admin.scanStream({ match: 'atomic:idempotency:*', count: 1_000 }) as AsyncIterable<
    string[]
  >) {
    for (const key of keys) {
      const [state, ttlMs] = await Promise.all([stateOf(admin, key), admin.pttl(key)]);
      if (ttlMs === -1 || (state === 'running' && ttlMs > 0)) leftovers++;
    }
  }
  return leftovers;
}
