import { Redis } from 'ioredis';
import { LIMIT, LIMIT_PER_MS, type Place, type RateLimit } from '../../tool.js';
import { isIoredisReply } from '../reply-errors.js';

/** As tutorials have it: INCR, and EXPIRE for the first call of a window. */
export async function start({ url }: Place): Promise<RateLimit> {
  const redis = new Redis(url);
  redis.on('error', () => {});
  return {
    async take(key) {
      const calls = await redis.incr(key);
      if (calls === 1) await redis.expire(key, LIMIT_PER_MS / 1_000);
      return calls <= LIMIT;
    },
    close: async () => redis.disconnect(),
  };
}

export const notApplied = isIoredisReply;
