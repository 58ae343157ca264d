import { Redis } from 'ioredis';
import type { Counter, Place } from '../../tool.js';
import { isIoredisReply } from '../reply-errors.js';

interface WithAdd extends Redis {
  addUpTo(key: string, max: number): Promise<number>;
}

/** A bounded counter as a script of ioredis's defineCommand. */
export async function start({ url }: Place): Promise<Counter> {
  const redis = new Redis(url) as WithAdd;
  redis.on('error', () => {});
  redis.defineCommand('addUpTo', {
    numberOfKeys: 1,
    lua: `
      if tonumber(redis.call('GET', KEYS[1]) or '0') >= tonumber(ARGV[1]) then return -1 end
      return redis.call('INCR', KEYS[1])`,
  });
  return { add: (key) => redis.addUpTo(key, 1_000), close: async () => redis.disconnect() };
}

export const notApplied = isIoredisReply;
