import { Logger } from '@nestjs/common';
import type { RedisOptions } from 'ioredis';
import { AtomicRedis, type AtomicRedisOptions } from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { USER } from '../support/least-rights.js';
import { targetOfEnvironment, useTarget } from '../support/target.js';

describe('clients', () => {
  const boot = useApp();
  const target = useTarget(targetOfEnvironment(), { asUser: true, replicasPerMaster: 1 });

  // With a key prefix, channels begin with it too.
  beforeAll(async () => {
    if (!target.isOurs) return;
    const servers = target.cluster?.nodes.map((node) => node.client) ?? [target.client];
    await Promise.all(servers.map((server) => server.call('ACL', 'SETUSER', USER, '&app:*')));
  });

  const withRedis = async (
    options: Omit<AtomicRedisOptions, 'namespace'>,
    work: (redis: AtomicRedis) => Promise<void>,
  ): Promise<void> => {
    const app = await boot(options);
    try {
      await work(app.get(AtomicRedis));
    } finally {
      await app.close();
    }
  };

  it.each<[string, RedisOptions]>([
    ['a key prefix', { keyPrefix: 'app:' }],
    ['auto-pipelining', { enableAutoPipelining: true }],
    ['a lazy connection', { lazyConnect: true }],
  ])('[SRV-6] (I46) a client of the application with %s works', async (_, options) => {
    const own = target.ownClient(options);
    if (!options.lazyConnect) await own.ping();
    const listeners = own.eventNames().map((name) => [name, own.listenerCount(name)]);
    const errors = jest.spyOn(Logger.prototype, 'error');
    const { keyPrefix = '' } = options;
    const key = keyPrefix ? 'k' : 'app:k';
    await withRedis({ connection: own }, async (redis) => {
      await redis.transactions.run([key], (tx) => void tx.write.set(key, 5));
      expect((await redis.counters.add(key, 1)).value).toBe(6);
      const { id } = await redis.reservations.hold(key, 1, { ttlMs: 60_000 });
      expect(await redis.reservations.release(id)).toBe(true);
      let runs = 0;
      const call = (): Promise<number> => redis.idempotency.run('order', () => Promise.resolve(++runs));
      expect([await call(), await call()]).toEqual([1, 1]);
      expect(await redis.values.compareAndSet(key, '6', '7')).toEqual({ swapped: true, current: '7' });
      await redis.transfers.transfer({ from: `${key}:{t}:a`, to: `${key}:{t}:b`, amount: 1, min: -1 });
    });
    expect(own.eventNames().map((name) => [name, own.listenerCount(name)])).toEqual(listeners);
    expect(await own.get(key)).toBe('7');
    expect(await target.client.get('app:k')).toBe('7');
    own.disconnect();
    // No right was missing.
    expect(errors).not.toHaveBeenCalled();
    errors.mockRestore();
  });
});
