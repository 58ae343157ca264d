import { Queue as BullQueue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { LEASE_MS, type Queue, type QueuePlace } from '../../tool.js';
import { isIoredisReply } from '../reply-errors.js';

/**
 * As its guides have it: no limit of retries for a worker's connection, the last finished jobs
 * kept, and job ids, so that a job that is added twice is one. The queue has no limit either, so
 * that an addition outlasts a short outage; by default ioredis gives up after 20 retries.
 */
export async function start({ url, handle }: QueuePlace): Promise<Queue> {
  const connect = (): Redis => {
    const redis = new Redis(url, { maxRetriesPerRequest: null });
    redis.on('error', () => {});
    return redis;
  };
  const connections = [connect(), connect()] as const;
  const queue = new BullQueue<string>('mails', { connection: connections[0] });
  const worker = new Worker<string>('mails', async ({ data }) => void (await handle(data)), {
    connection: connections[1],
    lockDuration: LEASE_MS,
    stalledInterval: LEASE_MS,
  });
  queue.on('error', () => {});
  worker.on('error', () => {});
  return {
    push: (id) =>
      queue.add('send', id, {
        jobId: id,
        attempts: 5,
        backoff: { type: 'exponential', delay: 50 },
        removeOnComplete: 1_000,
      }),
    async isIdle() {
      const counts = await queue.getJobCounts('waiting', 'active', 'delayed');
      return Object.values(counts).every((count) => count === 0);
    },
    async close() {
      await worker.close(true);
      for (const redis of connections) redis.disconnect();
    },
  };
}

export const notApplied = isIoredisReply;
