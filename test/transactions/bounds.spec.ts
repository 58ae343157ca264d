import type { TestingModule } from '@nestjs/testing';
import { InvalidArgumentError, TransactionService, type AtomicRedisOptions } from 'nestjs-atomic-redis';
import { getEventListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { openDedicatedClient } from '../../lib/connection/client.js';
import { RedisConnection } from '../../lib/connection/redis-connection.js';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';

describe('the bounds of transactions', () => {
  const boot = useApp();
  const redis = useRedis();
  const apps: TestingModule[] = [];

  const start = async (options: AtomicRedisOptions['transactions'] = {}): Promise<TransactionService> => {
    const app = await boot({ connection: redis.server.url, transactions: options });
    apps.push(app);
    return app.get(TransactionService);
  };

  afterEach(() => Promise.all(apps.splice(0).map((app) => app.close())));

  const own = { propagation: 'new' } as const;
  const touch = (service: TransactionService, key: string, ms: number): Promise<void> =>
    service.run(
      [key],
      async (tx) => {
        await tx.read.get(key);
        await sleep(ms);
        tx.write.set(key, 1);
      },
      own,
    );

  /** The most connections that were open at a time. */
  const mostOpen = async (service: TransactionService, work: () => Promise<unknown>): Promise<number> => {
    let most = 0;
    const looking = setInterval(() => (most = Math.max(most, service.pool.open)), 1);
    try {
      await work();
    } finally {
      clearInterval(looking);
    }
    return most;
  };

  it.each([
    // At most, transactions around, the most that may be open.
    [1, 1, 2],
    [2, 1, 2],
    [2, 2, 3],
  ])(
    '[TX-6] allow %d connections, and for 100 waiting transactions inside each of %d outer ones, at most %d in total',
    async (maxConnections, outers, allowed) => {
      const service = await start({ maxConnections, timeoutMs: 60_000 });
      const most = await mostOpen(service, () =>
        Promise.all(
          Array.from({ length: outers }, (_, o) =>
            service.run([`outer:${o}`], async (tx) => {
              // Not all at once: others come while some have a connection.
              const inside = Array.from({ length: 100 }, (__, i) =>
                sleep(i % 60).then(() => touch(service, `k:${o}:${i}`, 2)),
              );
              await Promise.all(inside);
              tx.write.set(`outer:${o}`, 1);
            }),
          ),
        ),
      );
      expect(most).toBeLessThanOrEqual(allowed);
      expect((await redis.client.keys('k:*')).length).toBe(100 * outers);
    },
  );

  it.each([
    [1, 1],
    [1, 4],
    [2, 4],
    [3, 3],
  ])(
    '[TX-6] allow %d connections, and one more for each of %d levels of waiting',
    async (maxConnections, depth) => {
      const service = await start({ maxConnections });
      const nest = (level: number, path: string): Promise<void> =>
        service.run(
          [path],
          async (tx) => {
            await tx.read.get(path);
            if (level < depth)
              await Promise.all(['a', 'b', 'c'].map((name) => nest(level + 1, `${path}:${name}`)));
            tx.write.set(path, 1);
          },
          own,
        );
      const most = await mostOpen(service, () => Promise.all([nest(0, 'x'), nest(0, 'y')]));
      expect(most).toBeLessThanOrEqual(maxConnections + depth);
      const count = Array.from({ length: depth + 1 }, (_, level) => 2 * 3 ** level).reduce((a, b) => a + b);
      expect((await redis.client.keys('[xy]*')).length).toBe(count);
      // The excess connections are closed.
      expect(service.pool.open).toBeLessThanOrEqual(maxConnections);
      expect(service.pool.waiting).toBe(0);
    },
  );

  it('[TX-6] open no connection in vain while others stand in line', async () => {
    const service = await start({ maxConnections: 1 });
    const opened = async (): Promise<string | undefined> =>
      /total_connections_received:(\d+)/.exec(await redis.client.info('stats'))?.[1];
    await service.run(['k'], () => 1);
    const before = await opened();
    await Promise.all(Array.from({ length: 20 }, (_, i) => service.run([`k${i}`], () => sleep(10))));
    expect(await opened()).toBe(before);
  });

  it('[TX-6] cause no deadlock when transactions of two registrations wait for each other’s connections', async () => {
    const [one, two] = [await start({ maxConnections: 1 }), await start({ maxConnections: 1 })];
    const around = (outer: TransactionService, inner: TransactionService, key: string): Promise<void> =>
      outer.run([key], async (tx) => {
        await tx.read.get(key);
        await sleep(20);
        await touch(inner, `${key}:inner`, 1);
        tx.write.set(key, 1);
      });
    await Promise.all([around(one, two, 'a'), around(two, one, 'b')]);
    expect(await redis.client.mget('a', 'b', 'a:inner', 'b:inner')).toEqual(['1', '1', '1', '1']);
  });

  it('[TX-8] leave nothing behind at a signal that outlives the transaction, and cause no warning', async () => {
    const service = await start();
    const { signal } = new AbortController();
    // Node.js warns where there are more than ten.
    let most = 0;
    const one = (i: number): Promise<unknown> =>
      service.run(
        [`k${i % 7}`],
        async (tx) => {
          if (tx.signal.aborted) return;
          most = Math.max(most, getEventListeners(signal, 'abort').length);
          await service.run(
            ['other'],
            async (joined) => [joined.signal.aborted, await joined.read.get('other')],
            { signal },
          );
          tx.write.incr(`k${i % 7}`);
        },
        { signal },
      );
    await Promise.all(Array.from({ length: 200 }, (_, i) => one(i)));
    expect(most).toBe(1);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  it('[SRV-15] keep the listeners few, however many replies report an unusable connection', async () => {
    const service = await start();
    await service.run(['k'], (tx) => void tx.write.set('k', 0));
    const connection = apps[0]!.get(RedisConnection);
    const shared = connection.client as Redis;
    const dedicated = openDedicatedClient(shared, 'test', '', () => true);
    await dedicated.connect();
    const streams = [shared.stream, dedicated.stream];
    await redis.client.replicaof('127.0.0.1', 1);
    const refused = [shared, dedicated].flatMap((client) =>
      Array.from({ length: 30 }, () => client.set('k', 1).catch(() => 'refused')),
    );
    expect(new Set(await Promise.all(refused))).toEqual(new Set(['refused']));
    // Node.js warns where there are more than ten.
    for (const stream of streams) expect(stream.listenerCount('close')).toBeLessThan(10);
    await redis.client.replicaof('NO', 'ONE');
    await service.run(['k'], (tx) => void tx.write.set('k', 1));
    dedicated.disconnect();
  });

  it('[ARG-1] refuse more keys than a server can watch without delaying others', async () => {
    const service = await start();
    const keys = Array.from({ length: 1_001 }, (_, i) => `k:${i}`);
    const counts = await countCommands(redis.client, async () => {
      await expect(service.run(keys, () => 1)).rejects.toThrow(InvalidArgumentError);
    });
    expect(counts).toEqual({});
    await expect(service.run(keys.slice(1), () => 1)).resolves.toBe(1);
    await service.run(['k'], async (tx) => {
      await tx.watch(...keys.slice(2));
      await expect(tx.watch('one', 'two')).rejects.toThrow(/at most 1000/);
      await expect(service.run(['one', 'two'], () => 1)).rejects.toThrow(/at most 1000/);
    });
  });

  it('[TX-3] count every attempt, whatever ended the previous one', async () => {
    const service = await start();
    const seen: number[] = [];
    await service.run(['k'], async (tx) => {
      seen.push(tx.attempt);
      await tx.read.get('k');
      if (seen.length === 1) await redis.client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
      if (seen.length === 2) await redis.client.set('k', 'meanwhile');
      tx.write.set('k', 1);
    });
    expect(seen).toEqual([1, 2, 3]);
  });
});
