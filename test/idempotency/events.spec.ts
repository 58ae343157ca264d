import { setTimeout as sleep } from 'node:timers/promises';
import { AtomicRedisEvents, OutcomeUnknownError, TransactionService } from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { useInstances } from './support.js';
import { damageRecord } from '../support/idempotency-record.js';

describe('events of runs and duplicates', () => {
  const redis = useRedis();
  let proxy: FaultProxy;
  const instances = useInstances(() => ({ connection: proxy.url, namespace: 'atomic:' }));

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
  });

  afterEach(() => proxy.stop());

  it('[ID-17] each run and each duplicate emits one event, even if listeners throw', async () => {
    const { idempotency, events, module } = await instances.start();
    const throwing = module.get(AtomicRedisEvents).subscribe(() => {
      throw new Error('from a listener');
    });
    module.get(AtomicRedisEvents).subscribe(async () => {
      throw new Error('from an asynchronous listener');
    });
    const run = (key: string, work: () => unknown, fingerprint?: string) =>
      idempotency.run(key, work, { operation: 'orders.create', fingerprint }).catch(() => undefined);
    await run('secret-1', () => 1, 'a');
    await run('secret-1', () => 1, 'a');
    await run('secret-1', () => 1, 'b');
    await run('secret-2', () => {
      throw new Error('failed');
    });
    await run('secret-2', () => run('secret-2', () => 1));
    await run('secret-3', () => {
      throw new OutcomeUnknownError('lost');
    });
    await run('secret-3', () => 1);
    await run('secret-4', async () => {
      for (const key of await redis.client.keys('*idempotency:*'))
        await damageRecord(redis.client, key, { token: 'another owner' });
    });
    throwing();
    await waitFor('the events', () => events.length === 9);
    await sleep(20);
    const told = events.map((event) => ('outcome' in event ? event.outcome : event.type));
    expect(told).toEqual([
      'completed',
      'replayed',
      'mismatch',
      'released',
      'in-flight',
      'completed',
      'held',
      'replayed',
      'lease-lost',
    ]);
    for (const event of events) {
      expect(event.operation).toBe('orders.create');
      expect(event.record).toMatch(/^atomic:idempotency:[\w-]{43}$/);
    }
    expect(JSON.stringify(events)).not.toContain('secret');
  });

  it('[ID-17] a run whose end could not be recorded has its own event', async () => {
    const { idempotency, events } = await instances.start();
    await idempotency.run(
      'k',
      () => {
        proxy.refuseConnections(true);
        proxy.disconnectAll();
      },
      { leaseMs: 4_000, timeoutMs: 1_500 },
    );
    await waitFor('the event', () => events.length === 1);
    expect(events).toMatchObject([{ type: 'idempotency.run', outcome: 'store-failed' }]);
  });

  it('[ID-17] a run that fails after a transaction has committed it counts as completed', async () => {
    const { idempotency, events, module } = await instances.start();
    const transactions = module.get(TransactionService);
    const run = idempotency.run('k', async () => {
      await transactions.run(['n'], (tx) => void tx.write.incr('n'), { completesRun: () => 1 });
      throw new Error('later');
    });
    await expect(run).rejects.toThrow('later');
    await waitFor('the event', () => events.length === 1);
    expect(events).toMatchObject([{ type: 'idempotency.run', outcome: 'completed' }]);
    expect(await idempotency.inspect('k')).toMatchObject({ state: 'completed' });
  });

  it('[ID-17] a duplicate whose result cannot be read has its own event, once', async () => {
    const encryption = {
      encrypt: (bytes: Buffer) => bytes,
      decrypt: () => {
        throw new Error('another key');
      },
    };
    const codec = { encode: () => 'x', decode: encryption.decrypt };
    for (const unreadable of [{ encryption }, { codec }]) {
      const { idempotency, events } = await instances.start({ idempotency: unreadable });
      await redis.client.flushall();
      await idempotency.run('k', () => 1);
      await idempotency.run('k', () => 2).catch(() => undefined);
      await idempotency.run('next', () => 3);
      await waitFor('the events', () => events.length >= 3);
      expect(events).toMatchObject([
        { type: 'idempotency.run', outcome: 'completed' },
        { type: 'idempotency.duplicate', outcome: 'failed' },
        { type: 'idempotency.run', outcome: 'completed' },
      ]);
    }
  });

  it('[ID-17] an unsubscribed listener gets no more events, not even those in flight', async () => {
    const { idempotency, events, module } = await instances.start();
    const heard: unknown[] = [];
    const unsubscribe = module.get(AtomicRedisEvents).subscribe((event) => heard.push(event));
    await idempotency.run('k', () => 1);
    unsubscribe();
    await idempotency.run('k', () => 2);
    await waitFor('the events', () => events.length === 2);
    expect(heard).toEqual([]);
  });
});
