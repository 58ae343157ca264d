import { Redis } from 'ioredis';
import type { Counter, Place } from '../../tool.js';
import { isIoredisReply } from '../reply-errors.js';

/** multi(): the count and a second write in one step. */
export async function start({ url }: Place): Promise<Counter> {
  const redis = new Redis(url);
  redis.on('error', () => {});
  return {
    async add(key) {
      const replies = await redis.multi().incr(key).persist(key).exec();
      for (const [error] of replies!) if (error) throw error;
      return replies![0]![1];
    },
    close: async () => redis.disconnect(),
  };
}

export const notApplied = isIoredisReply;
