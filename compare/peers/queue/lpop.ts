import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { Queue, QueuePlace } from '../../tool.js';
import { isIoredisReply } from '../reply-errors.js';

/** RPUSH, and BLPOP in a loop. */
export async function start({ url, handle }: QueuePlace): Promise<Queue> {
  const redis = new Redis(url);
  const consumer = new Redis(url, { maxRetriesPerRequest: null });
  for (const client of [redis, consumer]) client.on('error', () => {});
  const closing = new AbortController();
  const consume = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      try {
        const popped = await consumer.blpop('mails', 1);
        if (popped) await handle(popped[1]);
      } catch {
        await sleep(50);
      }
    }
  };
  void consume();
  return {
    push: (id) => redis.rpush('mails', id),
    isIdle: async () => (await redis.llen('mails')) === 0,
    async close() {
      closing.abort();
      for (const client of [redis, consumer]) client.disconnect();
    },
  };
}

export const notApplied = isIoredisReply;
