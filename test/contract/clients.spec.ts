import { Test } from '@nestjs/testing';
import type { RedisOptions } from 'ioredis';
import {
  AtomicRedis,
  AtomicRedisModule,
  IdempotencyService,
  RedisReplyError,
  RedisUnavailableError,
  type AtomicRedisOptions,
} from 'nestjs-atomic-redis';
import { USER } from '../support/least-rights.js';
import { targetOfEnvironment, useTarget } from '../support/target.js';
import { waitFor } from '../support/wait-for.js';

describe('clients', () => {
  const target = useTarget(targetOfEnvironment(), { asUser: true, replicasPerMaster: 1 });

  const itIfOurs = target.isOurs ? it : it.skip;
  const itIfCluster = target.isCluster ? it : it.skip;

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
    const app = await Test.createTestingModule({
      imports: [AtomicRedisModule.forRoot(options)],
    }).compile();
    try {
      await app.init();
      await work(app.get(AtomicRedis));
    } finally {
      await app.close();
    }
  };

  it.each<[string, RedisOptions]>([
    ['a key prefix', { keyPrefix: 'app:' }],
    ['auto-pipelining', { enableAutoPipelining: true }],
    ['a lazy connection', { lazyConnect: true }],
  ])('[SRV-6] (I46) one of the user’s own with %s', async (_, options) => {
    const own = target.ownClient(options);
    if (!options.lazyConnect) await own.ping();
    const listeners = own.eventNames().map((name) => [name, own.listenerCount(name)]);
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
      await redis.transfers.transfer({ from: `${key}:{t}:a`, to: `${key}:{t}:b`, amount: 1, minimum: -1 });
    });
    expect(own.eventNames().map((name) => [name, own.listenerCount(name)])).toEqual(listeners);
    expect(await own.get(key)).toBe('7');
    expect(await target.client.get('app:k')).toBe('7');
    own.disconnect();
  });

  itIfOurs(
    '[SRV-7] (I41) a server out of memory refuses before anything was done, and the method does not run',
    async () => {
      const { counters, idempotency, transactions, transfers } = target.redis;
      await counters.add('app:k', 1);
      await target.client.set('app:{t}:a', '5');
      const masters = await target.masters();
      await Promise.all(masters.map((node) => node.config('SET', 'maxmemory', '1')));
      try {
        let ran = 0;
        const refused = await Promise.allSettled([
          counters.add('app:k', 1),
          transfers.transfer({ from: 'app:{t}:a', to: 'app:{t}:b', amount: 1 }),
          idempotency.run('oom', () => Promise.resolve(++ran)),
          transactions.run(['app:k'], (tx) => void tx.write.set('app:k', 9)),
        ]);
        for (const one of refused) {
          const { reason } = one as PromiseRejectedResult;
          expect(reason).toBeInstanceOf(RedisReplyError);
          expect(reason).toMatchObject({ outcome: 'not-applied', retryable: true });
        }
        expect(ran).toBe(0);
      } finally {
        await Promise.all(masters.map((node) => node.config('SET', 'maxmemory', '0')));
      }
      expect(await target.client.get('app:k')).toBe('1');
      expect(await target.client.get('app:{t}:a')).toBe('5');
    },
  );

  itIfOurs(
    '[SRV-7] (I41) a server that refuses writes for now is waited for, up to the time-out',
    async () => {
      const node = (await target.masters())[0]!;
      // On a Cluster: some key that it has.
      const key = await keyOn(node);
      const { counters } = target.redis;
      await node.config('SET', 'min-replicas-to-write', '9');
      try {
        const options = { timeoutMs: 1_000, durability: { replicas: 1 } };
        for (const one of [
          counters.add(key, 1, { timeoutMs: 1_000 }),
          counters.add(`${key}:durable`, 1, options),
        ]) {
          const refused: unknown = await one.catch((error: unknown) => error);
          expect(refused).toBeInstanceOf(RedisUnavailableError);
          expect(refused).toMatchObject({
            outcome: 'not-applied',
            message: expect.stringContaining('NOREPLICAS'),
          });
        }
        const waiting = counters.add(key, 1, { timeoutMs: 20_000 });
        await node.config('SET', 'min-replicas-to-write', '0');
        expect((await waiting).value).toBe(1);
      } finally {
        await node.config('SET', 'min-replicas-to-write', '0');
      }
    },
  );

  async function keyOn(node: { exists(key: string): Promise<number> }): Promise<string> {
    for (let i = 0; ; i++) {
      const found = await node.exists(`app:{${i}}`).then(
        () => true,
        () => false,
      );
      if (found) return `app:{${i}}`;
    }
  }

  itIfCluster(
    '[SRV-7] (I41) where a Cluster has been failed over, the new master is asked, and the method runs once',
    async () => {
      const cluster = target.cluster!;
      const { counters } = target.redis;
      const idempotency = target.app.get(IdempotencyService);
      const key = 'app:{over}';
      await counters.add(key, 1);
      const before = await cluster.masterOf(key);
      const [replica] = await cluster.replicasOf(before);
      let runs = 0;
      await idempotency.run('over', () => Promise.resolve(++runs), { colocateWith: key });
      await replica!.client.call('CLUSTER', 'FAILOVER');
      await waitFor('the replica is the master', async () => (await cluster.masterOf(key)) === replica);
      expect((await counters.add(key, 1, { timeoutMs: 20_000 })).value).toBe(2);
      await idempotency.run('over', () => Promise.resolve(++runs), { colocateWith: key, timeoutMs: 20_000 });
      expect(runs).toBe(1);
    },
  );
});
