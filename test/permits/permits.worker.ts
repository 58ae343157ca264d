import { setTimeout as sleep } from 'node:timers/promises';
import {
  AtomicRedis,
  LeaseLostError,
  PermitUnavailableError,
  RedisUnavailableError,
  TransactionTimeoutError,
} from '../../lib/index.js';
import { startApp } from '../support/app.js';
import { worker } from '../support/worker.js';

export interface ContendersJob {
  readonly url: string;
  readonly contenders: number;
  readonly leaseMs: number;
}

export interface ContendersReport {
  /** Permits that were acquired. */
  readonly served: number;
  /**
   * The longest wait for a permit, in milliseconds; not of waits during which this process stood
   * still.
   */
  readonly longestWaitMs: number;
}

/** Errors of a machine that is busy: the contender tries again. */
const REFUSALS = [PermitUnavailableError, RedisUnavailableError, TransactionTimeoutError];

/**
 * A gap between two beats of a process that is this much longer than it should be means that it
 * stood still.
 */
const STILL_MS = 500;
const BEAT_MS = 50;

/**
 * Contends for one permit until its message to end. Each holder makes two enforced writes of its
 * fence, some time apart, and counts those that are refused. Told to stop, the process stops itself
 * by SIGSTOP while it holds the permit.
 */
worker<ContendersJob>(async ({ data, index, send, next }) => {
  const app = await startApp({ connection: data.url, timeoutMs: 10_000 });
  const { counters, permits, transactions, values } = app.get(AtomicRedis);
  let ends = false;
  let stops = 0;
  let [served, longestWaitMs] = [0, 0];
  let stoodStillAt = -Infinity;
  let beatAt = performance.now();
  const beats = setInterval(() => {
    const now = performance.now();
    if (now - beatAt > BEAT_MS + STILL_MS) stoodStillAt = now;
    beatAt = now;
  }, BEAT_MS);

  const write = async (permit: Parameters<Parameters<typeof permits.withPermit>[1]>[0]): Promise<void> => {
    try {
      await transactions.run(['log'], (tx) => void tx.write.rpush('log', permit.fence), {
        permit,
        // The lease outlasts it.
        timeoutMs: 2_000,
      });
      // By a script too.
      await values.getAndSet('last', String(permit.fence), { permit });
    } catch (error) {
      if (!(error instanceof LeaseLostError)) throw error;
      await counters.add('refused', 1);
    }
  };

  const contend = async (): Promise<void> => {
    while (!ends) {
      const askedAt = performance.now();
      try {
        await permits.withPermit(
          'p',
          async (permit) => {
            if (stoodStillAt < askedAt) longestWaitMs = Math.max(longestWaitMs, performance.now() - askedAt);
            served++;
            await values.getAndSet('holder', String(index));
            await write(permit);
            await sleep(20);
            if (stops > 0) {
              stops--;
              await values.getAndSet('stopped', String(permit.fence));
              process.kill(process.pid, 'SIGSTOP');
            }
            await write(permit);
          },
          { leaseMs: data.leaseMs, waitMs: 60_000 },
        );
      } catch (error) {
        if (!REFUSALS.some((type) => error instanceof type)) throw error;
      }
    }
  };

  send('ready');
  const contending = Promise.all(Array.from({ length: data.contenders }, contend));
  while (!(await next<{ end: boolean }>()).end) stops++;
  ends = true;
  await contending;
  clearInterval(beats);
  await app.close();
  return { served, longestWaitMs } satisfies ContendersReport;
});
