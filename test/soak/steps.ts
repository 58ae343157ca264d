import { setTimeout as sleep } from 'node:timers/promises';
import { IdempotencyService } from '../../lib/index.js';
import { startFaultProxy, startRedisServer } from '../../lib/testing/index.js';
import { startApp } from '../support/app.js';
import { startWorker, type WorkerProcess } from '../support/workers.js';
import { seededRandom } from './random.js';
import type { StepsJob } from './steps.worker.js';

export interface StepsSoakOptions {
  readonly keys: number;
  /** Faults at the most: processes killed or stopped, and replies lost. */
  readonly faults: number;
  readonly seed: number;
  readonly limitMs: number;
}

export interface StepsReport {
  readonly kills: number;
  readonly stops: number;
  readonly lostReplies: number;
  readonly paid: number;
  readonly held: number;
  /** Keys with neither a result nor a place among the held ones. */
  readonly lost: number;
  /**
   * Keys with two charges, two reservations or two transfers, or that were paid without one of
   * them.
   */
  readonly wrong: readonly string[];
}

const WORKERS = 3;
const LEASE_MS = 1_500;
/** Commands of a process from one fault to the next, at the most. */
const MOST_COMMANDS = 60;

/**
 * Runs of three steps by processes that are killed and stopped, over connections that lose replies.
 */
export async function soakSteps({ keys, faults, seed, limitMs }: StepsSoakOptions): Promise<StepsReport> {
  const server = await startRedisServer({ binary: process.env['TEST_REDIS_BINARY'] });
  const proxies = await Promise.all(
    Array.from({ length: WORKERS }, () => startFaultProxy({ target: server.url })),
  );
  const data: StepsJob = {
    urls: proxies.map(({ url }) => url),
    effectsUrl: server.url,
    keys,
    leaseMs: LEASE_MS,
    seed,
  };
  const random = seededRandom(seed);
  const tally = { strikes: 0, kills: 0, stops: 0 };
  const lost: { readonly count: number }[] = [];
  let isOver = false;
  const start = (index: number): WorkerProcess<boolean> =>
    startWorker({ script: require.resolve('./steps.worker.ts'), data, index, timeoutMs: limitMs });
  const workers = proxies.map((_, index) => start(index));
  // A fault that strikes an idle process proves nothing.
  void Promise.all(workers.map(({ result }) => result)).then(
    () => (isOver = true),
    () => undefined,
  );
  try {
    const strike = async (index: number): Promise<void> => {
      await workers[index]!.next();
      while (!isOver && tally.strikes++ < faults) {
        // By its progress, so that a slow machine gets as far between two faults as a fast one.
        const strikesAt = proxies[index]!.commandsSeen + Math.ceil(random() * MOST_COMMANDS);
        while (proxies[index]!.commandsSeen < strikesAt && !isOver) await sleep(2);
        const kind = random();
        if (kind < 0.7) lost.push(proxies[index]!.loseReplies());
        else if (kind < 0.8) {
          await workers[index]!.kill();
          tally.kills++;
          workers[index] = start(index);
          await workers[index].next();
          const all = [...workers];
          void Promise.all(all.map(({ result }) => result)).then(
            () => (isOver ||= all.every((one, i) => one === workers[i])),
            () => undefined,
          );
        } else {
          workers[index]!.pause();
          tally.stops++;
          await sleep(LEASE_MS * (1 + random()));
          workers[index]!.resume();
        }
      }
    };
    await Promise.all(workers.map((_, index) => strike(index)));
    await Promise.all(workers.map(({ result }) => result));
    isOver = true;
    const verdict = await judge(server.url, keys);
    const { kills, stops } = tally;
    return { kills, stops, lostReplies: lost.reduce((sum, { count }) => sum + count, 0), ...verdict };
  } finally {
    isOver = true;
    await Promise.all(workers.map((one) => one.kill()));
    await Promise.all(proxies.map((proxy) => proxy.stop()));
    await server.stop();
  }
}

async function judge(
  url: string,
  keys: number,
): Promise<Pick<StepsReport, 'paid' | 'held' | 'lost' | 'wrong'>> {
  const app = await startApp({ connection: url });
  const { Redis } = await import('ioredis');
  const effects = new Redis(url);
  try {
    const idempotency = app.get(IdempotencyService);
    const waiting = new Set<string>();
    let cursor: string | undefined;
    do {
      const page = await idempotency.held({
        operation: 'payments.pay',
        ...(cursor !== undefined && { cursor }),
      });
      for (const { record } of page.keys) waiting.add(record);
      ({ cursor } = page);
    } while (cursor !== undefined);
    let [paid, held, lost] = [0, 0, 0];
    const wrong: string[] = [];
    for (let i = 0; i < keys; i++) {
      const key = `key ${i}`;
      const found = await idempotency.inspect(key, { operation: 'payments.pay' });
      const isPaid = found?.state === 'completed';
      if (isPaid) paid++;
      else if (found && waiting.has(found.record)) held++;
      else lost++;
      const counts = [
        await effects.scard(`charges:${key}`),
        Number(await effects.get(`stock:${key}`)),
        Number(await effects.get(`transfers:${key}`)),
      ];
      const isWrong = counts.some((count) => count > 1 || (isPaid && count !== 1));
      if (isWrong) wrong.push(`${key}: ${found?.state} with ${counts.join(', ')}`);
    }
    return { paid, held, lost, wrong };
  } finally {
    effects.disconnect();
    await app.close();
  }
}
