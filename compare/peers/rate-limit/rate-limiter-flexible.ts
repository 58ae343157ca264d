import { Redis } from 'ioredis';
import { RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import { LIMIT, LIMIT_PER_MS, type Place, type RateLimit } from '../../tool.js';
import { isIoredisReply } from '../reply-errors.js';

/** `enableOfflineQueue: false`, as its documentation of Redis has it. */
export async function start({ url }: Place): Promise<RateLimit> {
  const redis = new Redis(url, { enableOfflineQueue: false });
  redis.on('error', () => {});
  await new Promise((resolve) => redis.once('ready', resolve));
  const limiter = new RateLimiterRedis({
    storeClient: redis,
    points: LIMIT,
    duration: LIMIT_PER_MS / 1_000,
  });
  return {
    async take(key) {
      try {
        await limiter.consume(key);
        return true;
      } catch (error) {
        if (error instanceof RateLimiterRes) return false;
        throw error;
      }
    },
    close: async () => redis.disconnect(),
  };
}

export const notApplied = isIoredisReply;
