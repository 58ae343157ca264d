import { Controller, Get, Module, UseGuards, type INestApplication } from '@nestjs/common';
import { ThrottlerGuard, ThrottlerModule, type ThrottlerStorage } from '@nestjs/throttler';
import { Test, type TestingModule } from '@nestjs/testing';
import { AtomicRedis, AtomicRedisModule } from 'nestjs-atomic-redis';
import { AtomicThrottlerStorage } from 'nestjs-atomic-redis/throttler';
import { startFaultProxy } from 'nestjs-atomic-redis/testing';
import { startApp, urlOf } from '../problem-details/edge-app.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

const LONG_MS = 600_000;

describe('AtomicThrottlerStorage', () => {
  const redis = useRedis();
  let apps: TestingModule[];
  let storages: AtomicThrottlerStorage[];

  const start = async (connection: string, timeoutMs = 20_000): Promise<TestingModule> => {
    const app = await Test.createTestingModule({
      imports: [AtomicRedisModule.forRoot({ connection, namespace: 'atomic:', timeoutMs })],
    }).compile();
    app.useLogger(false);
    return app.init();
  };

  beforeAll(async () => {
    apps = await Promise.all([start(redis.server.url), start(redis.server.url)]);
    storages = apps.map((app) => new AtomicThrottlerStorage(app.get(AtomicRedis)));
  });

  afterAll(() => Promise.all(apps.map((app) => app.close())));

  const hit = (storage: ThrottlerStorage, limit: number, ttl = LONG_MS, block = LONG_MS, key = 'k') =>
    storage.increment(key, ttl, limit, block, 'default');

  it('[TH-1] counts hits and blocks what is over the limit, in the units of @nestjs/throttler', async () => {
    const [storage] = storages;
    const results = [];
    for (let i = 0; i < 4; i++) results.push(await hit(storage!, 2, LONG_MS, 30_000));
    expect(results.map(({ totalHits, isBlocked }) => [totalHits, isBlocked])).toEqual([
      [1, false],
      [2, false],
      [3, true],
      [3, true],
    ]);
    expect(results.map(({ timeToBlockExpire }) => timeToBlockExpire)).toEqual([0, 0, 30, expect.any(Number)]);
    expect(results[0]!.timeToExpire).toBeGreaterThanOrEqual(600);
    expect(results[0]!.timeToExpire).toBeLessThanOrEqual(661);
    expect((await hit(storage!, 2, LONG_MS, 30_000, 'other')).totalHits).toBe(1);
    expect((await storage!.increment('k', LONG_MS, 2, 30_000, 'long')).totalHits).toBe(1);
    expect((await hit(storage!, 0)).isBlocked).toBe(true);
  });

  it('[TH-1] begins anew once the block is over', async () => {
    const [storage] = storages;
    await hit(storage!, 1, LONG_MS, 300);
    expect(await hit(storage!, 1, LONG_MS, 300)).toMatchObject({ isBlocked: true, timeToBlockExpire: 1 });
    await waitFor('the end', async () => !(await hit(storage!, 1, LONG_MS, 300)).isBlocked);
    expect((await hit(storage!, 1, LONG_MS, LONG_MS)).isBlocked).toBe(true);
  });

  it('[TH-1] without a block refuses until the first hit has expired', async () => {
    const [storage] = storages;
    await hit(storage!, 1, 300, 0);
    expect(await hit(storage!, 1, 300, 0)).toMatchObject({ isBlocked: true, totalHits: 2 });
    await waitFor('the expiry', async () => !(await hit(storage!, 1, 300, 0)).isBlocked);
  });

  it('[TH-2] lets exactly the limit pass when processes ask at the same time', async () => {
    for (const block of [0, LONG_MS]) {
      const results = await Promise.all(
        Array.from({ length: 400 }, (_, i) => hit(storages[i % 2]!, 50, LONG_MS, block, `b${block}`)),
      );
      const passed = results.filter(({ isBlocked }) => !isBlocked).map(({ totalHits }) => totalHits);
      expect(passed.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, i) => i + 1));
    }
  });

  it('[TH-2] lets no request pass uncounted where Redis does not answer', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    const app = await start(proxy.url, 5_000);
    try {
      proxy.refuseConnections(true);
      proxy.disconnectAll();
      const storage = new AtomicThrottlerStorage(app.get(AtomicRedis));
      // It may have been sent just before the connection was lost.
      await expect(hit(storage, 1)).rejects.toMatchObject({
        code: expect.stringMatching(/^(?:REDIS_UNAVAILABLE|OUTCOME_UNKNOWN)$/),
      });
    } finally {
      await app.close();
      await proxy.stop();
    }
  });

  it.each(['express', 'fastify'])('[TH-2] serves the guard of @nestjs/throttler on %s', async (platform) => {
    @Controller()
    @UseGuards(ThrottlerGuard)
    class ThrottledController {
      @Get('throttled')
      get() {
        return 'ok';
      }
    }
    @Module({
      imports: [
        ThrottlerModule.forRootAsync({
          inject: [AtomicRedis],
          useFactory: (atomic: AtomicRedis) => ({
            throttlers: [{ limit: 20, ttl: LONG_MS }],
            storage: new AtomicThrottlerStorage(atomic),
          }),
        }),
      ],
      controllers: [ThrottledController],
    })
    class ThrottledModule {}
    const parts = {
      platform,
      controllers: [],
      after: [ThrottledModule],
      options: { connection: redis.server.url, lazyConnect: false },
    };
    const servers: INestApplication[] = [await startApp(parts), await startApp(parts)];
    try {
      const answers = await Promise.all(
        Array.from({ length: 100 }, (_, i) => fetch(`${urlOf(servers[i % 2]!)}/throttled`)),
      );
      expect(answers.filter(({ status }) => status === 200)).toHaveLength(20);
      const refused = answers.filter(({ status }) => status === 429);
      expect(refused).toHaveLength(80);
      for (const { headers } of refused) expect(Number(headers.get('retry-after'))).toBeGreaterThan(500);
    } finally {
      await Promise.all(servers.map((server) => server.close()));
    }
  });
});
