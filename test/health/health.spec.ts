import { Controller, Get, Module, type INestApplication } from '@nestjs/common';
import { HealthCheck, HealthCheckService, TerminusModule } from '@nestjs/terminus';
import { Test } from '@nestjs/testing';
import {
  AtomicRedis,
  AtomicRedisModule,
  getAtomicRedisToken,
  InvalidArgumentError,
  type AtomicRedisOptions,
} from 'nestjs-atomic-redis';
import { AtomicRedisHealthIndicator } from 'nestjs-atomic-redis/health';
import { startFaultProxy } from 'nestjs-atomic-redis/testing';
import { useApp } from '../support/app.js';
import { startCluster, type TestCluster } from '../support/cluster.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

/** Far more than the time-outs of the checks, on a machine that is busy with other things. */
const WITHOUT_HANGING_MS = 10_000;

interface Checked {
  readonly status: string;
  readonly message?: string;
  readonly code?: string;
  readonly warnings?: string[];
  readonly servers?: { address: string; product?: string; version?: string; roundTripMs: number }[];
  readonly transactions: unknown;
}

@Controller('health')
class HealthController {
  constructor(
    private readonly health: HealthCheckService,
    private readonly redis: AtomicRedisHealthIndicator,
  ) {}

  @Get()
  @HealthCheck()
  check(): unknown {
    return this.health.check([() => this.redis.isHealthy('redis', { timeoutMs: 1_000 })]);
  }
}

@Module({
  imports: [TerminusModule.forRoot({ logger: false })],
  controllers: [HealthController],
  providers: [AtomicRedisHealthIndicator],
  exports: [AtomicRedisHealthIndicator],
})
class HealthModule {}

describe('nestjs-atomic-redis/health', () => {
  const redis = useRedis();
  let app: INestApplication | undefined;

  afterEach(async () => {
    if (redis.server.running) redis.server.resume();
    await app?.close();
    app = undefined;
  });

  const boot = async (options: Partial<AtomicRedisOptions> = {}): Promise<INestApplication> => {
    const NOBODY = 'redis://127.0.0.1:1';
    const module = await Test.createTestingModule({
      imports: [
        AtomicRedisModule.forRoot({
          connection: redis.server.url,
          namespace: 'atomic:',
          shutdownTimeoutMs: 0,
          ...options,
        }),
        AtomicRedisModule.forRoot({
          connection: NOBODY,
          namespace: 'atomic:',
          name: 'orders',
          lazyConnect: true,
        }),
        HealthModule,
      ],
    }).compile();
    app = module.createNestApplication();
    await app.init();
    return app;
  };

  const registration = (): AtomicRedis => app!.get<AtomicRedis>(getAtomicRedisToken());

  const isHealthy = async (options: { timeoutMs?: number; name?: string } = {}): Promise<Checked> => {
    const { redis: checked } = await app!.get(AtomicRedisHealthIndicator).isHealthy('redis', options);
    return checked as unknown as Checked;
  };

  it('[HLT-1] is up, and reports details of the server and of the connections', async () => {
    await boot({ transactions: { maxConnections: 1 } });
    expect(await isHealthy({ timeoutMs: 10_000 })).toEqual({
      status: 'up',
      servers: [
        {
          address: `127.0.0.1:${redis.server.port}`,
          role: 'master',
          database: 0,
          product: expect.stringMatching(/^(Redis|Valkey)$/) as string,
          version: expect.stringMatching(/^\d+\.\d+/) as string,
          roundTripMs: expect.any(Number) as number,
        },
      ],
      transactions: { maxConnections: 1, open: 0, inUse: 0, waiting: 0 },
      permits: { held: 0, waiting: 0 },
      operationsInFlight: 0,
      heldKeys: 0,
    });

    let end = (): void => undefined;
    const ended = new Promise<void>((resolve) => (end = resolve));
    const running = ['a', 'b', 'c'].map((key) => registration().transactions.run([key], () => ended));
    const busy = await waitFor('two to wait for the connection of the third', async () => {
      const { transactions } = await registration().status();
      return transactions.waiting === 2 && (await isHealthy({ timeoutMs: 10_000 }));
    });
    expect(busy).toMatchObject({
      status: 'up',
      transactions: { maxConnections: 1, open: 1, inUse: 1, waiting: 2 },
      operationsInFlight: 3,
    });
    end();
    await Promise.all(running);
  });

  it('[HLT-1] takes one round trip', async () => {
    const proxy = await startFaultProxy({ target: redis.server.url });
    await boot({ connection: proxy.url });
    await isHealthy();
    const before = proxy.roundTrips;
    await isHealthy();
    expect(proxy.roundTrips - before).toBe(1);
    await app!.close();
    await proxy.stop();
  });

  it('[HLT-2] is down in time when the server is silent, and up again when it returns', async () => {
    await boot({ timeoutMs: 60_000 });
    redis.server.pause();
    const before = performance.now();
    expect(await isHealthy({ timeoutMs: 300 })).toEqual({
      status: 'down',
      // Its own deadline passed: a server that hangs keeps its connections.
      message: expect.stringMatching(`127.0.0.1:${redis.server.port} .* did not answer`) as string,
      code: 'REDIS_UNAVAILABLE',
      transactions: expect.anything() as unknown,
      permits: expect.anything() as unknown,
      operationsInFlight: 0,
    });
    expect(performance.now() - before).toBeLessThan(WITHOUT_HANGING_MS);
    redis.server.resume();
    await waitFor('up again', async () => (await isHealthy()).status === 'up');
  });

  it('[HLT-2] is down when the server is gone, and up again when it returns', async () => {
    await boot();
    await redis.server.kill();
    expect(await isHealthy({ timeoutMs: 300 })).toMatchObject({ status: 'down', code: 'REDIS_UNAVAILABLE' });
    await redis.server.restart();
    await waitFor('up again', async () => (await isHealthy()).status === 'up');
  });

  it('[HLT-2] is down while the server refuses a PING, or the module is closed', async () => {
    await redis.client.config('SET', 'lua-time-limit', '50');
    await boot();
    const busy = redis.client.duplicate();
    const looping = busy.eval('while true do end', 0).catch((error: Error) => error.message);
    const down = await waitFor('a busy server', async () => {
      const checked = await isHealthy();
      return checked.code === 'REDIS_REPLY' && checked;
    });
    expect(down).toMatchObject({ status: 'down', message: expect.stringContaining('BUSY') as string });
    await redis.client.script('KILL');
    expect(await looping).toMatch(/kill/i);
    busy.disconnect();
    await waitFor('up again', async () => (await isHealthy()).status === 'up');
    await app!.close();
    expect(await isHealthy()).toMatchObject({ status: 'down', code: 'MODULE_CLOSED' });
  });

  it('[HLT-3] warns about an eviction policy and about forgotten scripts without being down', async () => {
    await boot();
    expect(await isHealthy()).not.toHaveProperty('warnings');
    await redis.client.config('SET', 'maxmemory-policy', 'allkeys-lru');
    expect(await isHealthy()).not.toHaveProperty('warnings');
    await redis.client.config('SET', 'maxmemory', '500mb');
    await redis.client.script('FLUSH');
    const { status, warnings } = await isHealthy();
    expect(status).toBe('up');
    expect(warnings).toEqual([
      expect.stringContaining('maxmemory-policy allkeys-lru'),
      expect.stringMatching(/does not hold \d+ scripts/),
    ]);
    await redis.client.config('SET', 'maxmemory-policy', 'noeviction', 'maxmemory', '0');
    expect(await registration().counters.add('n', 1)).toMatchObject({ value: 1 });
  });

  it('[HLT-3] omits details that the user may not query', async () => {
    const rights = ['on', '>secret', '~*', '&*', '+@all', '-info', '-script|exists'];
    await redis.client.call('ACL', 'SETUSER', 'limited', ...rights);
    await boot({ connection: redis.server.url.replace('//', '//limited:secret@') });
    const { status, servers } = await isHealthy();
    expect(status).toBe('up');
    expect(servers).toEqual([
      {
        address: `127.0.0.1:${redis.server.port}`,
        role: 'master',
        database: 0,
        roundTripMs: expect.any(Number) as number,
      },
    ]);
  });

  it('[HLT-4] checks the named registration', async () => {
    await boot();
    expect(await isHealthy({ name: 'orders', timeoutMs: 200 })).toMatchObject({
      status: 'down',
      message: expect.stringContaining('127.0.0.1:1 ') as string,
    });
    expect((await isHealthy({ timeoutMs: 10_000 })).status).toBe('up');
    await expect(isHealthy({ name: 'unheard-of' })).rejects.toMatchObject({
      code: 'CONFIGURATION',
      message: 'No AtomicRedisModule is registered as "unheard-of"',
    });
    await expect(isHealthy({ timeoutMs: 0 })).rejects.toBeInstanceOf(InvalidArgumentError);
    await expect(registration().status({ timeoutMs: '1' as never })).rejects.toBeInstanceOf(
      InvalidArgumentError,
    );
  });

  it('[HLT-4] answers over HTTP as @nestjs/terminus does', async () => {
    await boot();
    await app!.listen(0, '127.0.0.1');
    const get = async () => {
      const response = await fetch(`${await app!.getUrl()}/health`);
      return { code: response.status, body: (await response.json()) as { details: { redis: Checked } } };
    };
    expect(await get()).toMatchObject({
      code: 200,
      body: { status: 'ok', details: { redis: { status: 'up' } } },
    });
    redis.server.pause();
    expect(await get()).toMatchObject({
      code: 503,
      body: { status: 'error', details: { redis: { status: 'down', code: 'REDIS_UNAVAILABLE' } } },
    });
  });
});

describe('the health of a Cluster', () => {
  const boot = useApp();
  let cluster: TestCluster;

  beforeAll(async () => {
    cluster = await startCluster({ replicasPerMaster: 0 });
  });

  afterAll(() => cluster?.stop());

  it('[HLT-4] covers all of its masters', async () => {
    const nodes = cluster.nodes.map(({ host, port }) => ({ host, port }));
    const module = await boot({ connection: { nodes }, shutdownTimeoutMs: 0 }, { imports: [HealthModule] });
    const indicator = module.get(AtomicRedisHealthIndicator);
    const { redis: up } = (await indicator.isHealthy('redis', { timeoutMs: 5_000 })) as unknown as {
      redis: Checked;
    };
    expect(up.servers!.map(({ address }) => address).toSorted()).toEqual(
      nodes.map(({ host, port }) => `${host}:${port}`).toSorted(),
    );
    const silent = cluster.nodes[1]!;
    silent.server.pause();
    try {
      const { redis: down } = (await indicator.isHealthy('redis')) as unknown as { redis: Checked };
      expect(down).toMatchObject({
        status: 'down',
        message: expect.stringContaining(`${silent.host}:${silent.port} did not answer`) as string,
      });
    } finally {
      silent.server.resume();
    }
  });
});
