import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { QueueJob } from '../../lib/index.js';
import { openQueues } from '../queues/queues.js';
import { beginOperation } from '../histories/recorder.js';
import { worker } from '../support/worker.js';
import {
  EARLY_KEY,
  LOG_KEY,
  ORDER_KEY,
  REFUSED_KEY,
  type ConsumerData,
  type QueueSoakJob,
} from './queue-jobs.js';

/** Names one delivery, which `deliveries` does not: those that were given back do not count. */
const deliveryOf = (job: QueueJob): string =>
  (Reflect.get(job, 'taken') as { delivery: { fence: string } }).delivery.fence;

/**
 * Consumes until it is killed, or told to stop. Every delivery is logged before the job is worked
 * on: `<id> <delivery> <n>`.
 */
worker<ConsumerData>(async ({ data, send, next }) => {
  const log = new Redis(data.directUrl);
  const app = await openQueues(data.url, { shutdownTimeoutMs: 20 });
  const { leaseMs, maxDeliveries, concurrency } = data;
  const terms = { leaseMs, maxDeliveries, retry: { minMs: 50, maxMs: 500 } };
  const nowMs = async (): Promise<number> => {
    const [seconds, micros] = await log.time();
    return Number(seconds) * 1_000 + Number(micros) / 1_000;
  };
  app.queues.get<QueueSoakJob>(data.queue, terms).consume(
    async (job) => {
      const { kind, n, dueAtMs } = job.payload;
      beginOperation({ name: 'delivery', key: job.id, args: { n, kind } })({
        outcome: 'ok',
        result: deliveryOf(job),
      });
      if (dueAtMs !== undefined && (await nowMs()) < dueAtMs) await log.rpush(EARLY_KEY, job.id);
      await log.rpush(LOG_KEY, `${job.id} ${deliveryOf(job)} ${n}`);
      if (kind === 'poison') throw new Error('poison');
      if (kind === 'killer') process.kill(process.pid, 'SIGKILL');
      if (kind === 'refused' && (await log.sadd(REFUSED_KEY, job.id)) === 1)
        throw Object.assign(new Error('not now'), { retryable: true, retryAfterMs: 300 });
      if (kind === 'failing' && (await log.sadd(REFUSED_KEY, job.id)) === 1) throw new Error('once');
      // Keeps some jobs running when the process is stopped.
      if (n % 20 === 0) await sleep(40);
    },
    { concurrency },
  );
  if (data.ordered !== undefined)
    app.queues.get<number>(data.ordered, terms).consume(async (job) => {
      await log.rpush(ORDER_KEY, job.payload);
      if (job.payload % 10 === 0) await sleep(20);
    });
  send('ready');
  await next();
  await app.close();
  log.disconnect();
  process.exit(0);
});
