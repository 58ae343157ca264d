import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { LEASE_MS, type Place, type Update } from '../../tool.js';
import { isIoredisReply } from '../reply-errors.js';

/** A lock of the server's own: SET NX PX, and DELIFEQ frees it. */
export async function start({ url }: Place): Promise<Update> {
  const redis = new Redis(url);
  redis.on('error', () => {});
  return {
    async update(key, change) {
      const token = randomUUID();
      while ((await redis.set(`lock:${key}`, token, 'PX', LEASE_MS, 'NX')) === null) await sleep(50);
      try {
        await redis.set(key, await change(await redis.get(key)));
      } finally {
        await redis.call('DELIFEQ', `lock:${key}`, token);
      }
    },
    close: async () => redis.disconnect(),
  };
}

export const notApplied = isIoredisReply;
