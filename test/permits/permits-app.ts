import type { TestingModule } from '@nestjs/testing';
import type { Redis } from 'ioredis';
import { AtomicRedis, type AtomicRedisOptions } from 'nestjs-atomic-redis';
import { startApp } from '../support/app.js';

/** Applications on one Redis, as processes of one service. Call it inside `describe`. */
export function usePermitApps(): {
  start(
    connection: AtomicRedisOptions['connection'],
    options?: Partial<AtomicRedisOptions>,
  ): Promise<AtomicRedis>;
  close(redis: AtomicRedis): Promise<void>;
} {
  const apps = new Map<AtomicRedis, TestingModule>();
  const close = async (redis: AtomicRedis): Promise<void> => {
    const app = apps.get(redis);
    apps.delete(redis);
    await app?.close();
  };
  afterEach(() => Promise.all([...apps.keys()].map(close)));
  return {
    start: async (connection, options = {}) => {
      const app = await startApp({ connection, shutdownTimeoutMs: 500, ...options });
      const redis = app.get(AtomicRedis);
      apps.set(redis, app);
      return redis;
    },
    close,
  };
}

/** The keys that hold the tokens of holders, without those whose permit was released. */
export const slotKeysOf = async (client: Redis): Promise<string[]> => {
  const keys = (await client.keys('atomic:permit-[0-9]*')).toSorted();
  const holders = await Promise.all(keys.map((key) => client.get(key)));
  return keys.filter((_, i) => holders[i] && !/^[.,]/.test(holders[i]));
};

/** The number of those in line for a name. */
export const inLine = async (client: Redis): Promise<number> => {
  const [line] = await client.keys('atomic:permit-line:*');
  return line ? await client.zcard(line) : 0;
};
