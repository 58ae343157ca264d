import { Inject, Injectable, Module } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { Cluster, Redis } from 'ioredis';
import {
  AtomicRedis,
  AtomicRedisModule,
  AtomicCounter,
  AuditedHashService,
  CounterService,
  IdempotencyService,
  InjectAtomicRedis,
  InvalidArgumentError,
  ListService,
  ModuleClosedError,
  RedisUnavailableError,
  ReliableQueueService,
  ReservationService,
  ShadowKeyService,
  TransactionService,
  ValueService,
  type AtomicRedisOptions,
} from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { startCluster } from '../support/cluster.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

/** A loopback port on which nothing listens. */
const NOBODY = 'redis://127.0.0.1:1';

describe('AtomicRedisModule', () => {
  const boot = useApp();
  const redis = useRedis();

  const start = (...modules: NonNullable<Parameters<typeof Test.createTestingModule>[0]['imports']>) =>
    Test.createTestingModule({ imports: modules })
      .compile()
      .then((app) => app.init());

  /** The server hears of the end of a connection some time after its client. */
  const expectNoConnection = () =>
    waitFor(
      'no connection',
      async () => !String(await redis.client.client('LIST')).includes('nestjs-atomic-redis'),
    );

  it('[MOD-1] makes every service injectable by its class and by the façade', async () => {
    const app = await start(
      AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:' }),
    );
    const facade = app.get(AtomicRedis);
    expect(facade.transactions).toBe(app.get(TransactionService));
    expect(facade.idempotency).toBe(app.get(IdempotencyService));
    expect(facade.counters).toBe(app.get(CounterService));
    expect(facade.queues).toBe(app.get(ReliableQueueService));
    expect(facade.lists).toBe(app.get(ListService));
    expect(facade.reservations).toBe(app.get(ReservationService));
    expect(facade.values).toBe(app.get(ValueService));
    expect(facade.auditedHashes).toBe(app.get(AuditedHashService));
    expect(facade.shadowKeys).toBe(app.get(ShadowKeyService));
    await app.close();
  });

  it('[MOD-1] takes its options from a factory', async () => {
    const config = { url: redis.server.url };
    @Module({ providers: [{ provide: 'CONFIG', useValue: config }], exports: ['CONFIG'] })
    class ConfigModule {}
    const app = await start(
      AtomicRedisModule.forRootAsync({
        imports: [ConfigModule],
        inject: ['CONFIG'],
        useFactory: ({ url }: typeof config): AtomicRedisOptions => ({ connection: url, namespace: 'shop:' }),
      }),
    );
    await app.get(IdempotencyService).run('k', () => 1);
    expect(await redis.client.keys('shop:*')).toHaveLength(1);
    await app.close();
  });

  it('[MOD-2] keeps named registrations apart', async () => {
    @Injectable()
    class Shop {
      constructor(
        @InjectAtomicRedis('orders') readonly orders: AtomicRedis,
        @InjectAtomicRedis() readonly standard: AtomicRedis,
        @Inject(CounterService) readonly counters: CounterService,
      ) {}

      @AtomicCounter({ key: 'calls', name: 'orders' })
      async call(): Promise<void> {}
    }
    const { host, port } = redis.server;
    const app = await boot(
      { connection: { host, port, db: 1 } },
      {
        imports: [
          AtomicRedisModule.forRootAsync({
            name: 'orders',
            useFactory: () => ({ connection: { host, port, db: 2 }, namespace: 'atomic:' }),
          }),
        ],
        providers: [Shop],
      },
    );
    const shop = app.get(Shop);
    expect(shop.standard.counters).toBe(shop.counters);
    expect(shop.orders.counters).not.toBe(shop.counters);
    await shop.call();
    await shop.counters.add('calls', 10);
    expect(await shop.orders.counters.get('calls')).toBe(1);
    expect(await shop.standard.counters.get('calls')).toBe(10);
  });

  it('[MOD-2] refuses two registrations of one name, and treats an undefined name as none', async () => {
    const { url } = redis.server;
    const twice = start(
      AtomicRedisModule.forRoot({ connection: url, namespace: 'atomic:', name: undefined }),
      AtomicRedisModule.forRoot({ connection: url, namespace: 'b:' }),
    );
    await expect(twice).rejects.toThrow(/registered twice as "default"/);
    const app = await start(
      AtomicRedisModule.forRoot({
        connection: url,
        namespace: 'atomic:',
        name: undefined,
        isGlobal: undefined,
      }),
    );
    expect(app.get(AtomicRedis)).toBeDefined();
    await app.close();
  });

  it('[MOD-4] leaves nothing open when another registration keeps the application from starting', async () => {
    const booting = start(
      AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:' }),
      AtomicRedisModule.forRoot({ connection: NOBODY, namespace: 'atomic:', name: 'other', timeoutMs: 200 }),
    );
    await expect(booting).rejects.toThrow(RedisUnavailableError);
    await expectNoConnection();
  });

  it.each<[string, unknown]>([
    ['forRoot.connection', {}],
    ['forRoot.connection', { connection: 'localhost:6379' }],
    ['forRoot.connection', { connection: 'http://localhost' }],
    ['forRoot.connection', { connection: 7 }],
    ['forRoot.connection.nodes', { connection: { nodes: [] } }],
    ['forRoot.connection.password', { connection: { nodes: [{ port: 1 }], password: 'x' } }],
    ['forRoot.timeoutMs', { connection: NOBODY, timeoutMs: 0 }],
    ['forRoot.timeoutMs', { connection: NOBODY, timeoutMs: '5000' }],
    ['forRoot.namespace', { connection: NOBODY, namespace: '{a}' }],
    ['forRoot.namespace', { connection: NOBODY, namespace: '' }],
    ['forRoot.namespace', { connection: NOBODY, namespace: undefined }],
    ['forRoot.timeout', { connection: NOBODY, timeout: 5 }],
    ['forRoot.transactions.maxConnections', { connection: NOBODY, transactions: { maxConnections: 0 } }],
    ['forRoot.idempotency.ttl', { connection: NOBODY, idempotency: { ttl: 1 } }],
    ['forRoot.counters.maxBatchSize', { connection: NOBODY, counters: { maxBatchSize: 513 } }],
    ['forRoot.name', { connection: NOBODY, name: '' }],
    ['forRoot.name', { connection: NOBODY, name: 5 }],
    ['connection.keyPrefix', { connection: { port: 1, keyPrefix: 'a{' } }],
  ])('[MOD-3] refuses a wrong %s at boot: %p', async (argument, options) => {
    const booting = (async () =>
      start(
        AtomicRedisModule.forRoot({
          namespace: 'shop:',
          ...(options as Partial<AtomicRedisOptions>),
        } as AtomicRedisOptions),
      ))();
    await expect(booting).rejects.toThrow(InvalidArgumentError);
    await expect(booting).rejects.toMatchObject({ argument });
  });

  it('[MOD-10] tells how to write a missing namespace', async () => {
    const booting = (async () =>
      start(AtomicRedisModule.forRoot({ connection: NOBODY } as AtomicRedisOptions)))();
    await expect(booting).rejects.toThrow(
      /forRoot\.namespace must be .* write for example namespace: 'shop:'/,
    );
    const asked = (async () =>
      start(
        AtomicRedisModule.forRootAsync({ useFactory: () => ({ connection: NOBODY }) as AtomicRedisOptions }),
      ))();
    await expect(asked).rejects.toMatchObject({ argument: 'forRoot.namespace' });
  });

  it('[MOD-3] suggests the option that a misspelt one was meant to be', async () => {
    const options = { connection: NOBODY, namespace: 'shop:', timeout: 5 } as AtomicRedisOptions;
    const booting = (async () => start(AtomicRedisModule.forRoot(options)))();
    await expect(booting).rejects.toThrow(/forRoot\.timeout must be absent.* Did you mean timeoutMs\?/);
  });

  it('[MOD-3] never shows a password', async () => {
    const booting = start(
      AtomicRedisModule.forRoot({ connection: 'http://user:hunter2@localhost', namespace: 'atomic:' }),
    );
    await expect(booting).rejects.not.toThrow(/hunter2/);
  });

  it('[MOD-4] fails to start without Redis within timeoutMs, and gives the reason', async () => {
    const startedAt = performance.now();
    const booting = start(
      AtomicRedisModule.forRoot({ connection: NOBODY, namespace: 'atomic:', timeoutMs: 1_500 }),
    );
    await expect(booting).rejects.toThrow(RedisUnavailableError);
    await expect(booting).rejects.toThrow(/127\.0\.0\.1:1 .*ECONNREFUSED/);
    // By default it would be five seconds.
    expect(performance.now() - startedAt).toBeLessThan(4_500);
  });

  it('[MOD-4] starts without Redis when lazyConnect is set', async () => {
    const app = await start(
      AtomicRedisModule.forRoot({
        connection: NOBODY,
        namespace: 'atomic:',
        timeoutMs: 200,
        lazyConnect: true,
      }),
    );
    await expect(app.get(IdempotencyService).run('k', () => 1)).rejects.toThrow(RedisUnavailableError);
    await app.close();
  });

  it('[MOD-5] copies the settings of an existing client, changes nothing on it, and does not close it', async () => {
    const mine = new Redis(redis.server.url, {
      keyPrefix: 'mine:',
      enableAutoPipelining: true,
    });
    await mine.select(3);
    const listeners = () => mine.eventNames().map((name) => [name, mine.listenerCount(name)]);
    const before = [Object.keys(mine), { ...mine.options }, listeners()];
    const app = await start(AtomicRedisModule.forRoot({ connection: mine, namespace: 'atomic:' }));
    await app.get(TransactionService).run(['k'], (tx) => void tx.write.set('k', 'through the library'));
    await app.get(CounterService).add('n', 2);
    expect(await mine.mget('k', 'n')).toEqual(['through the library', '2']);
    expect([Object.keys(mine), { ...mine.options }, listeners()]).toEqual(before);
    await app.close();
    expect(mine.status).toBe('ready');
    mine.disconnect();
  });

  it('[MOD-5] waits longer for replies than an existing client does', async () => {
    // Any command of this client would time out; it is not even connected.
    const mine = new Redis(redis.server.url, { lazyConnect: true, commandTimeout: 1 });
    const app = await start(AtomicRedisModule.forRoot({ connection: mine, namespace: 'atomic:' }));
    // A command that timed out would be sent again.
    const counts = await countCommands(redis.client, async () => {
      await redis.client.call('CLIENT', 'PAUSE', 100, 'ALL');
      expect((await app.get(CounterService).add('n', 2)).value).toBe(2);
      await redis.client.call('CLIENT', 'PAUSE', 100, 'ALL');
      await app.get(TransactionService).run(['k'], (tx) => void tx.write.set('k', 1));
    });
    expect(counts).toMatchObject({ evalsha: 1, watch: 1, exec: 1 });
    await app.close();
    expect(mine.status).toBe('wait');
  });

  it('[MOD-6] waits for work in progress, then closes everything it opened', async () => {
    const app = await start(
      AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:' }),
    );
    const transactions = app.get(TransactionService);
    let finish = (): void => undefined;
    const gate = new Promise<void>((resolve) => (finish = resolve));
    let started = (): void => undefined;
    const running = new Promise<void>((resolve) => (started = resolve));
    const work = transactions.run(['k'], async (tx) => {
      started();
      await gate;
      tx.write.set('k', 'done');
    });
    await running;
    const closing = app.close();
    finish();
    await work;
    await closing;
    expect(await redis.client.get('k')).toBe('done');
    await expectNoConnection();
    await expect(app.get(CounterService).add('n', 1)).rejects.toThrow(ModuleClosedError);
    await expect(transactions.run(['k'], () => 1)).rejects.toThrow(ModuleClosedError);
  });

  it('[MOD-6] waits no longer than shutdownTimeoutMs', async () => {
    const app = await start(
      AtomicRedisModule.forRoot({
        connection: redis.server.url,
        namespace: 'atomic:',
        shutdownTimeoutMs: 100,
      }),
    );
    app.useLogger(false);
    let started = (): void => undefined;
    const running = new Promise<void>((resolve) => (started = resolve));
    const never = app
      .get(TransactionService)
      .run(['k'], () => (started(), new Promise<void>(() => undefined)), { timeoutMs: 30_000 });
    const outcome = never.catch((error: unknown) => error);
    await running;
    const startedAt = performance.now();
    await app.close();
    expect(performance.now() - startedAt).toBeLessThan(10_000);
    expect(await outcome).toBeInstanceOf(ModuleClosedError);
  });
});

describe('AtomicRedisModule on a Cluster', () => {
  const boot = useApp();
  let cluster: Awaited<ReturnType<typeof startCluster>>;

  beforeAll(async () => {
    cluster = await startCluster({ masters: 3, replicasPerMaster: 0 });
  });

  afterAll(() => cluster.stop());

  it.each(['nodes', 'an existing client'])('[MOD-7] works from %s', async (form) => {
    const nodes = cluster.nodes.map(({ host, port }) => ({ host, port }));
    const mine = new Cluster(nodes);
    const connection = form === 'nodes' ? { nodes } : mine;
    const app = await boot({ connection });
    for (let i = 0; i < 20; i++) {
      const key = `${form}{${i}`;
      await app
        .get(TransactionService)
        .run([key], async (tx) => void tx.write.set(key, Number(await tx.read.get(key)) + 1));
      await app.get(CounterService).add(key, 2);
      await expect(app.get(IdempotencyService).run(key, () => i)).resolves.toBe(i);
      expect(await mine.get(key)).toBe('3');
    }
    await expect(app.get(TransactionService).run(['a', 'b'], () => 1)).rejects.toMatchObject({
      code: 'CROSS_SLOT',
      keys: ['a', 'b'],
    });
    await app.close();
    expect(mine.status).toBe('ready');
    mine.disconnect();
  });
});
