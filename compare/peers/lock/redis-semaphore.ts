import { Redis } from 'ioredis';
import { Mutex, TimeoutError } from 'redis-semaphore';
import { LEASE_MS, type Place, type Update } from '../../tool.js';
import { isIoredisReply } from '../reply-errors.js';

class LockLost extends Error {}

/** A mutex whose loss is asked for before the write, as in its example with lost lock handling. */
export async function start({ url }: Place): Promise<Update> {
  const redis = new Redis(url);
  redis.on('error', () => {});
  return {
    async update(key, change) {
      const mutex = new Mutex(redis, key, {
        lockTimeout: LEASE_MS,
        acquireTimeout: 10_000,
        onLockLost: () => {},
      });
      await mutex.acquire();
      try {
        const next = await change(await redis.get(key));
        if (!mutex.isAcquired) throw new LockLost('The lock was lost');
        await redis.set(key, next);
      } finally {
        await mutex.release();
      }
    },
    close: async () => redis.disconnect(),
  };
}

export const notApplied = (error: unknown): boolean =>
  error instanceof LockLost || error instanceof TimeoutError || isIoredisReply(error);
