import { createClientPool, WatchError } from 'redis';
import type { Place, Update } from '../../tool.js';
import { isNodeRedisReply } from '../reply-errors.js';

/** The loop of its documentation, on its pool. */
export async function start({ url }: Place): Promise<Update> {
  const pool = createClientPool({ url }, { minimum: 2, maximum: 10 });
  pool.on('error', () => {});
  await pool.connect();
  return {
    update: (key, change) =>
      pool.execute(async (client) => {
        for (;;) {
          await client.watch(key);
          const value = await client.get(key);
          try {
            return await client
              .multi()
              .set(key, await change(value))
              .exec();
          } catch (error) {
            if (!(error instanceof WatchError)) throw error;
          }
        }
      }),
    close: async () => pool.destroy(),
  };
}

export const notApplied = isNodeRedisReply;
