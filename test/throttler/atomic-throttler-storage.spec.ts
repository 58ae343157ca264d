import {
  Controller,
  Get,
  Module,
  UseGuards,
  type ExecutionContext,
  type INestApplication,
} from '@nestjs/common';
import {
  SkipThrottle,
  Throttle,
  ThrottlerGuard,
  ThrottlerModule,
  type ThrottlerStorage,
} from '@nestjs/throttler';
import type { TestingModule } from '@nestjs/testing';
import { AtomicRedis } from 'nestjs-atomic-redis';
import { AtomicThrottlerStorage } from 'nestjs-atomic-redis/throttler';
import { startFaultProxy } from 'nestjs-atomic-redis/testing';
import { startApp, urlOf } from '../problem-details/edge-app.js';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

const LONG_MS = 600_000;

describe('AtomicThrottlerStorage', () => {
  const boot = useApp();
  const redis = useRedis();
  let apps: TestingModule[];
  let storages: AtomicThrottlerStorage[];

  const start = (connection: string, timeoutMs = 20_000): Promise<TestingModule> =>
    boot({ connection, timeoutMs });

  beforeAll(async () => {
    apps = await Promise.all([start(redis.server.url), start(redis.server.url)]);
    storages = apps.map((app) => new AtomicThrottlerStorage(app.get(AtomicRedis)));
  });

  afterAll(() => Promise.all(apps.map((app) => app.close())));

  const hit = (storage: ThrottlerStorage, limit: number, ttl = LONG_MS, block = LONG_MS, key = 'k') =>
    storage.increment(key, ttl, limit, block, 'default');

  it('[TH-1] counts hits and blocks those over the limit, in the units of @nestjs/throttler', async () => {
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

  it('[TH-1] starts again once the block is over', async () => {
    const [storage] = storages;
    await hit(storage!, 1, LONG_MS, 300);
    expect(await hit(storage!, 1, LONG_MS, 300)).toMatchObject({ isBlocked: true, timeToBlockExpire: 1 });
    await waitFor('the end', async () => !(await hit(storage!, 1, LONG_MS, 300)).isBlocked);
    expect((await hit(storage!, 1, LONG_MS, LONG_MS)).isBlocked).toBe(true);
  });

  it('[TH-1] without a block refuses until the first hit has expired', async () => {
    const [storage] = storages;
    await hit(storage!, 1, 2_000, 0);
    expect(await hit(storage!, 1, 2_000, 0)).toMatchObject({ isBlocked: true, totalHits: 2 });
    await waitFor('the expiry', async () => !(await hit(storage!, 1, 2_000, 0)).isBlocked);
  });

  it.each([0, LONG_MS])('[TH-1] does not store the hits that a block of %i ms refuses', async (block) => {
    const [storage] = storages;
    for (let i = 0; i < 2; i++) await hit(storage!, 1, LONG_MS, block);
    const kept = await redis.client.keys('*');
    for (let i = 0; i < 20; i++) expect((await hit(storage!, 1, LONG_MS, block)).isBlocked).toBe(true);
    expect(await redis.client.keys('*')).toHaveLength(kept.length);
  });

  it('[TH-2] accepts exactly the limit when several processes ask at the same time', async () => {
    for (const block of [0, LONG_MS]) {
      const results = await Promise.all(
        Array.from({ length: 400 }, (_, i) => hit(storages[i % 2]!, 50, LONG_MS, block, `b${block}`)),
      );
      const passed = results.filter(({ isBlocked }) => !isBlocked).map(({ totalHits }) => totalHits);
      expect(passed.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, i) => i + 1));
    }
  });

  it('[TH-2] lets no request pass uncounted when Redis does not answer', async () => {
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

  describe.each(['express', 'fastify'])('under the guard of @nestjs/throttler on %s', (platform) => {
    @Controller()
    @UseGuards(ThrottlerGuard)
    class ThrottledController {
      @Get('default')
      byDefault() {
        return 'ok';
      }

      @Throttle({ default: { limit: 5, ttl: 2 * LONG_MS } })
      @Get('own')
      own() {
        return 'ok';
      }

      @SkipThrottle({ default: true, wide: true })
      @Get('skipped')
      skipped() {
        return 'ok';
      }

      @SkipThrottle({ default: true })
      @Throttle({ wide: { limit: 7 } })
      @Get('wide')
      onlyWide() {
        return 'ok';
      }

      @SkipThrottle({ wide: true })
      @Throttle({ default: { limit: 1, blockDuration: 1_000 } })
      @Get('blocked')
      blocked() {
        return 'ok';
      }
    }
    const isFrom =
      (...agents: readonly string[]) =>
      (context: ExecutionContext): boolean => {
        const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, string> }>();
        return agents.includes(headers['user-agent']!);
      };

    @Module({
      imports: [
        ThrottlerModule.forRootAsync({
          inject: [AtomicRedis],
          useFactory: (atomic: AtomicRedis) => ({
            throttlers: [
              { limit: 20, ttl: LONG_MS },
              { name: 'wide', limit: 30, ttl: 3 * LONG_MS, skipIf: isFrom('narrow', 'internal') },
            ],
            ignoreUserAgents: [/^monitor/],
            // Header of throttlers without one of their own.
            skipIf: isFrom('internal'),
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
      options: () => ({ connection: redis.server.url, lazyConnect: false, timeoutMs: 20_000 }),
    };
    let servers: INestApplication[];

    beforeAll(async () => {
      const startServer = () => startApp({ ...parts, options: parts.options() });
      servers = await Promise.all([startServer(), startServer()]);
    });
    afterAll(() => Promise.all(servers.map((server) => server.close())));

    const ask = (path: string, i = 0, agent = 'test'): Promise<Response> =>
      fetch(`${urlOf(servers[i % servers.length]!)}/${path}`, { headers: { 'user-agent': agent } });
    const askAtOnce = (path: string, agent?: string): Promise<Response[]> =>
      Promise.all(Array.from({ length: 64 }, (_, i) => ask(path, i, agent)));
    /** Returns the remaining requests, as in the header of a throttler, for each that passed. */
    const remaining = (answers: readonly Response[], suffix = ''): number[] =>
      answers
        .filter(({ status }) => status === 200)
        .map(({ headers }) => Number(headers.get(`x-ratelimit-remaining${suffix}`)))
        .toSorted((one, other) => other - one);
    const countdown = (from: number): number[] => Array.from({ length: from }, (_, i) => from - 1 - i);

    it.each([
      ['default', '', 20, 600],
      ['own', '', 5, 1_200],
      ['wide', '-wide', 7, 1_800],
    ])(
      '[TH-2] accepts exactly the limit of /%s when 64 requests arrive at once at two processes',
      async (path, suffix, limit, seconds) => {
        const answers = await askAtOnce(path);
        expect(remaining(answers, suffix)).toEqual(countdown(limit));
        const refused = answers.filter(({ status }) => status === 429);
        expect(refused).toHaveLength(64 - limit);
        for (const { headers } of refused) {
          // By default a refusal blocks for the ttl.
          expect(Number(headers.get(`retry-after${suffix}`))).toBeGreaterThan(seconds / 2);
          expect(Number(headers.get(`retry-after${suffix}`))).toBeLessThanOrEqual(seconds);
        }
      },
    );

    it('[TH-2] keeps the hits of several throttlers apart, and both limit a route', async () => {
      const answers = await askAtOnce('default');
      // A request that the first refuses is not counted by the second, which is asked later.
      expect(remaining(answers, '-wide')).toEqual(countdown(30).slice(0, 20));
      expect(answers[0]!.headers.get('x-ratelimit-limit-wide')).toBe('30');
    });

    it('[TH-2] counts nothing if the guard skips the request', async () => {
      for (const [path, agent] of [
        ['skipped'],
        ['default', 'monitor/1.0'],
        ['default', 'internal'],
      ] as const) {
        const answers = await askAtOnce(path, agent);
        expect(answers.map(({ status }) => status)).toEqual(Array<number>(64).fill(200));
        expect(answers[0]!.headers.get('x-ratelimit-limit')).toBeNull();
      }
      expect(await redis.client.keys('atomic:limit*')).toEqual([]);
    });

    it('[TH-2] counts nothing for a throttler that skips the request by its own skipIf', async () => {
      const answers = await askAtOnce('default', 'narrow');
      expect(remaining(answers)).toEqual(countdown(20));
      expect(answers[0]!.headers.get('x-ratelimit-limit-wide')).toBeNull();
      expect((await ask('wide')).headers.get('x-ratelimit-remaining-wide')).toBe('6');
    });

    it('[TH-1] blocks a route for its blockDuration, and then starts again', async () => {
      expect((await ask('blocked')).status).toBe(200);
      const refused = await ask('blocked', 1);
      expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1']);
      await waitFor('the end of the block', async () => {
        const { status, headers } = await ask('blocked');
        return status === 200 && headers.get('x-ratelimit-remaining') === '0';
      });
    });
  });
});
