import { Redis } from 'ioredis';
import { openQueues } from '../queues/queues.js';
import { worker } from '../support/worker.js';
import { LOG_KEY, type ConsumerData, type QueueSoakJob } from './queue-jobs.js';

/** Consumes until it is killed. Every delivery is logged before the job is worked on: `<id> <delivery> <n>`. */
worker<ConsumerData>(async ({ data, send }) => {
  const log = new Redis(data.directUrl);
  const { queues } = await openQueues(data.url);
  const { leaseMs, maxDeliveries, concurrency } = data;
  queues.get<QueueSoakJob>(data.queue, { leaseMs, maxDeliveries }).consume(
    async (job) => {
      await log.rpush(LOG_KEY, `${job.id} ${job.deliveries} ${job.payload.n}`);
      if (job.payload.isPoison) throw new Error('poison');
    },
    { concurrency },
  );
  send('ready');
  await new Promise(() => undefined);
});
