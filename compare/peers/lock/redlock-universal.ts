import { Redis } from 'ioredis';
import { createLock, IoredisAdapter } from 'redlock-universal';
import { LEASE_MS, type Place, type Update } from '../../tool.js';
import { isIoredisReply } from '../reply-errors.js';

class LockLost extends Error {}

/** `using`, as its documentation recommends, and its signal asked before the write. */
export async function start({ url }: Place): Promise<Update> {
  const redis = new Redis(url);
  redis.on('error', () => {});
  const adapter = new IoredisAdapter(redis as never);
  return {
    update(key, change) {
      const lock = createLock({
        adapter,
        key: `lock:${key}`,
        ttl: LEASE_MS,
        retryAttempts: 100,
        retryDelay: 100,
      });
      return lock.using(async (signal) => {
        const next = await change(await redis.get(key));
        if (signal.aborted) throw new LockLost('The lock was lost');
        await redis.set(key, next);
      });
    },
    close: async () => redis.disconnect(),
  };
}

export const notApplied = (error: unknown): boolean =>
  error instanceof LockLost || (error as Error).name === 'LockAcquisitionError' || isIoredisReply(error);
