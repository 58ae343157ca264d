import { Redis, type Cluster, type RedisOptions } from 'ioredis';
import { IdempotencyInFlightError, IdempotencyMismatchError, TransactionService } from 'nestjs-atomic-redis';
import { startCluster, type TestCluster } from '../support/cluster.js';
import { useRedis } from '../support/redis.js';
import { startSentinelGroup, type SentinelGroup } from '../support/sentinel.js';
import { waitFor } from '../support/wait-for.js';
import { gate, useInstances, type Instance } from './support.js';

const instances = useInstances(() => ({ connection: 'redis://127.0.0.1:1', namespace: 'atomic:' }));

/**
 * Everything that may be different with a client's settings: claim, renewal, refusal, waiting,
 * replay, commit with effects.
 */
async function useEverything({ idempotency, module }: Instance): Promise<void> {
  const { promise, resolve } = gate();
  let runs = 0;
  const run = (fingerprint: string, onDuplicate: 'refuse' | 'wait') =>
    idempotency.run('k', async () => (runs++, await promise, { a: [1, 'two', null, 1.5] }), {
      fingerprint,
      onDuplicate,
      leaseMs: 1_800,
      timeoutMs: 5_000,
    });
  const running = run('a', 'refuse');
  await waitFor('the run', async () => (await idempotency.inspect('k'))?.state === 'running');
  await expect(run('a', 'refuse')).rejects.toThrow(IdempotencyInFlightError);
  await expect(run('b', 'refuse')).rejects.toThrow(IdempotencyMismatchError);
  const waiting = run('a', 'wait');
  // Past its first lease.
  const until = performance.now() + 2_000;
  await waitFor('a renewal', () => performance.now() > until);
  await expect(run('a', 'refuse')).rejects.toThrow(IdempotencyInFlightError);
  resolve();
  const result = { a: [1, 'two', null, 1.5] };
  expect(await Promise.all([running, waiting])).toEqual([result, result]);
  expect(await run('a', 'refuse')).toEqual(result);
  expect(runs).toBe(1);

  const transactions = module.get(TransactionService);
  const work = () =>
    transactions.run(['n'], (tx) => void tx.write.incr('n'), { completesRun: () => 'committed' });
  await idempotency.run('with effects', work, { colocateWith: 'n' });
  await idempotency.run('with effects', work, { colocateWith: 'n' });
  expect(await transactions.run(['n'], (tx) => tx.read.get('n'))).toBe('1');
  expect(await idempotency.forget('k')).toBe(true);
}

/** The state that a library could leave on a client that is not its own. */
const traces = (client: Redis | Cluster) => ({
  properties: Object.getOwnPropertyNames(client).toSorted(),
  listeners: client.eventNames().map((name) => [name, client.listenerCount(name)]),
  status: client.status,
});

/**
 * Lets an application use a client. Returns the client's traces from before and after that, and its
 * status once the application has closed.
 */
async function tracesOfUse(client: Redis | Cluster, isLazy = false) {
  if (!isLazy) await waitFor('the connection', () => client.status === 'ready');
  const before = traces(client);
  const instance = await instances.start({ connection: client });
  await useEverything(instance);
  const after = traces(client);
  await instance.module.close();
  return { before, after, status: client.status };
}

describe('idempotent runs with a client of the application', () => {
  const redis = useRedis();
  const clients: Redis[] = [];

  afterEach(() => {
    for (const client of clients.splice(0)) client.disconnect();
  });

  it.each<[string, RedisOptions]>([
    ['a key prefix', { keyPrefix: 'app:' }],
    ['auto-pipelining', { enableAutoPipelining: true }],
    ['a connection that is not opened yet', { lazyConnect: true }],
    ['another database', { db: 3 }],
    ['replies of its own kind', { stringNumbers: true }],
    [
      'no offline queue, no retries and a short time-out',
      { enableOfflineQueue: false, maxRetriesPerRequest: 0, commandTimeout: 1, lazyConnect: true },
    ],
  ])('[ID-20] work with %s, and leave the client unchanged', async (_, options) => {
    const { keyPrefix: prefix = '' } = options;
    const client = new Redis(redis.server.port, redis.server.host, options);
    clients.push(client);
    const { before, after, status } = await tracesOfUse(client, options.lazyConnect);
    expect(after).toEqual(before);
    expect(status).toBe(before.status);
    await redis.client.select(options.db ?? 0);
    const keys = await redis.client.keys('*');
    await redis.client.select(0);
    expect(keys.length).toBeGreaterThan(0);
    for (const key of keys) expect(key.startsWith(`${prefix}atomic:`) || key === `${prefix}n`).toBe(true);
  });
});

describe('idempotent runs over the application’s Cluster client', () => {
  let cluster: TestCluster;

  beforeAll(async () => {
    cluster = await startCluster();
  });

  afterAll(() => cluster?.stop());

  it.each<[string, object]>([
    ['as it is', {}],
    ['a key prefix', { keyPrefix: 'app{x}:' }],
    ['auto-pipelining', { enableAutoPipelining: true }],
    ['a connection that is not opened yet', { lazyConnect: true }],
  ])('[ID-20] work when it has %s, and leave it unchanged', async (_, options: { lazyConnect?: boolean }) => {
    const client = cluster.connect(options);
    try {
      const { before, after, status } = await tracesOfUse(client, options.lazyConnect);
      expect(after).toEqual(before);
      expect(status).toBe(before.status);
      await Promise.all(cluster.nodes.slice(0, 3).map((node) => node.client.flushall()));
    } finally {
      client.disconnect();
    }
  });
});

describe('idempotent runs behind Sentinel', () => {
  let setup: SentinelGroup;

  beforeAll(async () => {
    setup = await startSentinelGroup();
  });

  afterAll(() => setup?.stop());

  it('[ID-20] work, and a run in progress completes at the new master', async () => {
    const {
      connection,
      servers: [master, replica],
    } = setup;
    const instance = await instances.start({ connection });
    await useEverything(instance);
    const { idempotency } = instance;
    const copy = new Redis(replica.url);
    const { promise, resolve } = gate<string>();
    let runs = 0;
    const run = () =>
      idempotency.run('through a failover', () => (runs++, promise), { leaseMs: 20_000, timeoutMs: 10_000 });
    const running = run();
    await waitFor('the run', async () => runs === 1);
    // A master's unreplicated writes are lost with it. A forgotten key leaves a record, too.
    await waitFor('the copy', async () => (await copy.keys('*idempotency*')).length >= 3);
    await master.kill();
    await waitFor('the failover', async () => (await copy.role())[0] === 'master', 30_000);
    copy.disconnect();
    await expect(run()).rejects.toThrow(IdempotencyInFlightError);
    resolve('done');
    expect(await running).toBe('done');
    expect(await run()).toBe('done');
    expect(runs).toBe(1);
  });
});
