import { Redis } from 'ioredis';
import type { Place, Update } from '../../tool.js';
import { isIoredisReply } from '../reply-errors.js';

/** WATCH and multi() on a connection of its own, one call at a time. */
export async function start({ url }: Place): Promise<Update> {
  const redis = new Redis(url);
  redis.on('error', () => {});
  let last: Promise<unknown> = Promise.resolve();
  const update = async (key: string, change: (value: string | null) => Promise<string>): Promise<unknown> => {
    for (;;) {
      await redis.watch(key);
      const next = await change(await redis.get(key));
      const replies = await redis.multi().set(key, next).exec();
      if (replies === null) continue;
      for (const [error] of replies) if (error) throw error;
      return next;
    }
  };
  return {
    update(key, change) {
      const call = last.then(() => update(key, change));
      last = call.catch(() => undefined);
      return call;
    },
    close: async () => redis.disconnect(),
  };
}

export const notApplied = isIoredisReply;
