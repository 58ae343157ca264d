import { Redis } from 'ioredis';
import type { Counter, Place } from '../../tool.js';
import { isIoredisReply } from '../reply-errors.js';

/** A bounded counter of the server's own: INCREX, since Redis 8.8 and Valkey 9.2. */
export async function start({ url }: Place): Promise<Counter> {
  const redis = new Redis(url);
  redis.on('error', () => {});
  return {
    add: (key) => redis.call('INCREX', key, 'BYINT', '1', 'UBOUND', '1000'),
    close: async () => redis.disconnect(),
  };
}

export const notApplied = isIoredisReply;
