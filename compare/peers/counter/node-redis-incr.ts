import { createClient } from 'redis';
import type { Counter, Place } from '../../tool.js';
import { isNodeRedisReply } from '../reply-errors.js';

/** INCR. */
export async function start({ url }: Place): Promise<Counter> {
  const client = createClient({ url });
  client.on('error', () => {});
  await client.connect();
  return { add: (key) => client.incr(key), close: async () => client.destroy() };
}

export const notApplied = isNodeRedisReply;
