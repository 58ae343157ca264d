import type { Cluster } from 'ioredis';
import { CrossSlotError, ListService } from '../../lib/index.js';
import { useApp } from '../support/app.js';
import { startCluster, type TestCluster } from '../support/cluster.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { openQueues } from './queues.js';

describe('queues on a Cluster', () => {
  const boot = useApp();
  let cluster: TestCluster;
  let client: Cluster;

  beforeAll(async () => {
    cluster = await startCluster({ replicasPerMaster: 0 });
    client = cluster.connect();
  });
  afterAll(async () => {
    client?.disconnect();
    await cluster?.stop();
  });

  it('[QU-19] keep each queue in one slot, whatever its name, and different queues in different slots', async () => {
    const app = await openQueues(client, { namespace: 'c:' });
    const names = ['a', 'c', 'd', '{x}', 'a}', 'a{b}c', 'shop:{7}:emails'];
    for (const name of names) {
      const queue = app.queues.get<string>(name, { maxDeliveries: 1 });
      const waiting = queue.take({ waitMs: 20_000 });
      await queue.push('first');
      expect(await (await waiting)!.ack()).toBe(true);
      await queue.pushMany(['second', 'third']);
      const { next } = await (await queue.take())!.ackAndTakeNext();
      await next!.retry();
      expect(await queue.counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 1 });
      expect(await queue.deadLetters.requeueAll()).toBe(1);
    }
    const slots = new Set<number>();
    for (const { client: node } of cluster.nodes) {
      for (const key of await node.keys('c:queue:pending:*')) slots.add(await cluster.slotOf(key));
    }
    expect(slots.size).toBe(names.length);
    await app.close();
  });

  it('[QU-19] follow their slot when it moves while a consumer waits', async () => {
    const app = await openQueues(client);
    const queue = app.queues.get<number>('moving');
    const done = new Set<number>();
    queue.consume((job) => void done.add(job.payload), { concurrency: 2 });
    await queue.push(0);
    await waitFor('the first', () => done.has(0));
    const owner = await cluster.masterOf('moving');
    const target = cluster.nodes.find((node) => node !== owner)!;
    const pushing = (async () => {
      for (let i = 1; i <= 60; i++) await queue.push(i, { timeoutMs: 20_000 });
    })();
    await cluster.migrateSlot('moving', target);
    await pushing;
    await queue.push(61);
    await waitFor('all', () => done.size === 62);
    await waitFor('the last is acknowledged', async () => (await queue.counts()).processing === 0);
    expect(await queue.counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
    await app.close();
  });

  it('[LI-5] lists move within a slot, and are refused across slots before any I/O', async () => {
    const app = await boot({ connection: client });
    const lists = app.get(ListService);
    await client.rpush('{l}a', '1');
    expect(await lists.move('{l}a', '{l}b')).toBe('1');
    const waiting = lists.move('{l}a', '{l}b', { waitMs: 20_000 });
    await client.rpush('{l}a', '2');
    expect(await waiting).toBe('2');
    const refused = await lists.move('{l}a', 'elsewhere').catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(CrossSlotError);
    expect((refused as CrossSlotError).keys).toEqual(['{l}a', 'elsewhere']);
  });
});

describe('queues with ioredis’s keyPrefix', () => {
  const boot = useApp();
  const redis = useRedis();

  it.each(['p:', '{shop}:'])('[QU-19] put it before every key: %s', async (keyPrefix) => {
    const { host, port } = redis.server;
    const app = await openQueues({ host, port, keyPrefix });
    const queue = app.queues.get<string>('q', { maxDeliveries: 1 });
    const waiting = queue.take({ waitMs: 20_000 });
    await waitFor('BZPOPMIN blocks', async () =>
      (await redis.client.info('clients')).includes('blocked_clients:1'),
    );
    const id = await queue.push('a');
    const job = (await waiting)!;
    expect(job.id).toBe(id);
    await job.retry({ reason: 'why' });
    await queue.pushMany(['b', 'c']);
    await queue.take();
    for (const key of await redis.client.keys('*')) expect(key.startsWith(keyPrefix)).toBe(true);
    expect(await queue.deadLetters.list()).toMatchObject([{ id, reason: 'why' }]);
    await app.close();
  });

  it('[LI-5] put it before the keys of lists too', async () => {
    const { host, port } = redis.server;
    const app = await boot({ connection: { host, port, keyPrefix: 'p:' } });
    const waiting = app.get(ListService).move('a', 'b', { waitMs: 20_000 });
    await waitFor('BLMOVE blocks', async () =>
      (await redis.client.info('clients')).includes('blocked_clients:1'),
    );
    await redis.client.rpush('p:a', '1');
    expect(await waiting).toBe('1');
    expect(await redis.client.lrange('p:b', 0, -1)).toEqual(['1']);
  });
});
