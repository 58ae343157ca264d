import { Redis } from 'ioredis';
import type { Place, Update } from '../../tool.js';
import { isIoredisReply } from '../reply-errors.js';

/** GET, then SET. */
export async function start({ url }: Place): Promise<Update> {
  const redis = new Redis(url);
  redis.on('error', () => {});
  return {
    update: async (key, change) => await redis.set(key, await change(await redis.get(key))),
    close: async () => redis.disconnect(),
  };
}

export const notApplied = isIoredisReply;
