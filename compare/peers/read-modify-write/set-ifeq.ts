import { Redis } from 'ioredis';
import type { Place, Update } from '../../tool.js';
import { isIoredisReply } from '../reply-errors.js';

/** Compare-and-set by the server: SET IFEQ, and SET NX for the first value. */
export async function start({ url }: Place): Promise<Update> {
  const redis = new Redis(url);
  redis.on('error', () => {});
  return {
    async update(key, change) {
      for (;;) {
        const value = await redis.get(key);
        const next = await change(value);
        const condition = value === null ? ['NX'] : ['IFEQ', value];
        if ((await redis.call('SET', key, next, ...condition)) !== null) return next;
      }
    },
    close: async () => redis.disconnect(),
  };
}

export const notApplied = isIoredisReply;
