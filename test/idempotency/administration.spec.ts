import { setTimeout as sleep } from 'node:timers/promises';
import {
  IdempotencyInFlightError,
  IdempotencyMismatchError,
  IdempotencyRecordError,
  OutcomeUnknownError,
  RedisUnavailableError,
  RunTimeoutError,
  IllegalTransactionStateError,
  TransactionService,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { renewScript } from '../../lib/idempotency/renew.script.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { gate, on, useInstances } from './support.js';
import { damageRecord } from '../support/idempotency-record.js';

describe('inspecting and forgetting keys', () => {
  const redis = useRedis();
  const instances = useInstances(() => ({ connection: redis.server.url, namespace: 'atomic:' }));

  it('[ID-16] distinguishes missing, running, completed and held keys', async () => {
    const { idempotency } = await instances.start();
    const options = { scope: 's', operation: 'o' };
    expect(await idempotency.inspect('k', options)).toBeNull();
    await idempotency.run(
      'k',
      async () => {
        const running = await idempotency.inspect('k', options);
        expect(running).toEqual({
          record: expect.stringMatching(/^atomic:idempotency:/) as string,
          state: 'running',
          expiresInMs: expect.any(Number) as number,
          resultBytes: 0,
        });
        expect(running!.expiresInMs).toBeLessThanOrEqual(30_000);
        await expect(idempotency.forget('k', options)).rejects.toThrow(IdempotencyInFlightError);
        return 'ten chars';
      },
      options,
    );
    const completed = await idempotency.inspect('k', options);
    expect(completed).toMatchObject({ state: 'completed', resultBytes: 11 });
    expect(completed!.expiresInMs).toBeGreaterThan(80_000_000);
    expect(await idempotency.inspect('k')).toBeNull();
    expect(await idempotency.forget('k')).toBe(false);
  });

  it('[ID-16] frees a key that was held because its outcome was unknown', async () => {
    const { idempotency } = await instances.start();
    const lost = () => {
      throw new OutcomeUnknownError('lost');
    };
    await idempotency.run('k', lost).catch(() => undefined);
    expect(await idempotency.inspect('k')).toMatchObject({ state: 'held' });
    expect(await idempotency.forget('k')).toBe(true);
    expect(await idempotency.forget('k')).toBe(false);
    expect(await idempotency.run('k', () => 'ran')).toBe('ran');
  });

  it('[ID-16] reports a run that a transaction committed as running until it ends', async () => {
    const { idempotency, module } = await instances.start();
    await idempotency.run('k', async () => {
      await module
        .get(TransactionService)
        .run(['n'], (tx) => void tx.write.incr('n'), { completesRun: () => 1 });
      expect(await idempotency.inspect('k')).toMatchObject({ state: 'running' });
      await expect(idempotency.forget('k')).rejects.toThrow(IdempotencyInFlightError);
    });
    expect(await idempotency.inspect('k')).toMatchObject({ state: 'completed' });
  });

  it('[ID-16] forgets nothing inside a transaction, whose every attempt would repeat it', async () => {
    const { idempotency, module } = await instances.start();
    await idempotency.run('k', () => 1);
    const forgetting = module.get(TransactionService).run(['n'], () => idempotency.forget('k'));
    await expect(forgetting).rejects.toThrow(IllegalTransactionStateError);
    expect(await idempotency.run('k', () => 2)).toBe(1);
  });

  it('[ID-16] leaves foreign keys untouched', async () => {
    const { idempotency } = await instances.start();
    await idempotency.run('k', () => 1);
    const [record] = await redis.client.keys('atomic:idempotency:*');
    await redis.client.set(record!, 'foreign');
    await expect(idempotency.inspect('k')).rejects.toThrow(IdempotencyRecordError);
    await expect(idempotency.forget('k')).rejects.toThrow(IdempotencyRecordError);
    expect(await redis.client.get(record!)).toBe('foreign');
  });
});

describe('the lease keeper of many runs', () => {
  const redis = useRedis();
  const instances = useInstances(() => ({ connection: redis.server.url, namespace: 'atomic:' }));

  it('[ID-12] renews 100 leases by one call', async () => {
    const { idempotency } = await instances.start();
    const { promise, resolve } = gate();
    const runs = Array.from({ length: 100 }, (_, i) =>
      idempotency.run(`k${i}`, () => promise, { leaseMs: 3_000 }),
    );
    await waitFor('all claims', async () => (await redis.client.dbsize()) === 100);
    const counts = await countCommands(redis.client, () =>
      waitFor('two renewals', async () => {
        const stats = await redis.client.info('commandstats');
        return Number(/cmdstat_get:calls=(\d+)/.exec(stats)?.[1] ?? 0) >= 200;
      }),
    );
    const ttls = await Promise.all((await redis.client.keys('*')).map((key) => redis.client.pttl(key)));
    expect(ttls).toHaveLength(100);
    // Every second.
    expect(counts.evalsha).toBeLessThanOrEqual(8);
    resolve();
    await Promise.all(runs);
  });

  it('[ID-12] renews the other leases when one record is lost', async () => {
    const { idempotency } = await instances.start();
    const { promise, resolve } = gate();
    const reasons: unknown[] = [];
    const run = (key: string) =>
      idempotency.run(
        key,
        async ({ signal }) => {
          signal.addEventListener('abort', () => reasons.push([key, (signal.reason as Error).name]));
          await promise;
        },
        { leaseMs: 3_000 },
      );
    const lost = run('lost');
    const [record] = await waitFor('the first', async () => {
      const keys = await redis.client.keys('*');
      return keys.length === 1 && keys;
    });
    const others = Array.from({ length: 5 }, (_, i) => run(`k${i}`));
    await waitFor('the others', async () => (await redis.client.dbsize()) === 6);
    await damageRecord(redis.client, record!, { token: 'another owner' });
    await sleep(3_500);
    expect(reasons).toEqual([['lost', 'LeaseLostError']]);
    resolve();
    await Promise.all([lost, ...others]);
  });

  it('[ID-12] reports a run that exceeds maxRunMs, and its key is free once its lease has ended', async () => {
    const { idempotency } = await instances.start();
    const { promise, resolve } = gate<string>();
    const reason = gate<unknown>();
    const hanging = idempotency.run(
      'k',
      async ({ signal }) => {
        signal.addEventListener('abort', () => reason.resolve(signal.reason));
        return await promise;
      },
      { leaseMs: 3_000, maxRunMs: 2_000 },
    );
    expect(await reason.promise).toBeInstanceOf(RunTimeoutError);
    expect(await idempotency.run('k', () => 'second', { onDuplicate: 'wait' })).toBe('second');
    resolve('first');
    expect(await hanging).toBe('first');
    expect(await idempotency.run('k', () => 'third')).toBe('second');
  });
});

describe('an unreachable Redis', () => {
  const redis = useRedis();
  let proxy: FaultProxy;
  const instances = useInstances(() => ({ connection: proxy.url, namespace: 'atomic:' }));

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
  });

  afterEach(() => proxy.stop());

  it('[ID-10] runs nothing while Redis is away, or runs unprotected and reports it when configured so', async () => {
    const { idempotency, events, module } = await instances.start({ idempotency: { timeoutMs: 800 } });
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    const began = performance.now();
    const ran = jest.fn(() => 'ran');
    await expect(idempotency.run('k', ran)).rejects.toThrow(RedisUnavailableError);
    // A claim has a time of its own; other operations have five seconds.
    expect(performance.now() - began).toBeLessThan(4_000);
    expect(ran).not.toHaveBeenCalled();

    const open = { onUnavailable: 'run', timeoutMs: 100, operation: 'orders.create' } as const;
    await expect(idempotency.run('k', ran, open)).resolves.toBe('ran');
    await waitFor('the events', () => events.length === 2);
    expect(events).toMatchObject([
      { type: 'idempotency.claim-failed', error: 'REDIS_UNAVAILABLE' },
      { type: 'idempotency.ran-unprotected', operation: 'orders.create' },
    ]);

    // The writes of the same transaction are still committed.
    const committed = idempotency.run(
      'k',
      async () => {
        proxy.reset();
        return await module
          .get(TransactionService)
          .run(['n'], (tx) => void tx.write.incr('n'), { completesRun: () => 1, timeoutMs: 5_000 });
      },
      open,
    );
    await committed;
    expect(await redis.client.get('n')).toBe('1');
    // Refused for another reason than an unreachable Redis, nothing runs.
    await idempotency.run('m', () => 1, { fingerprint: 'a', timeoutMs: 20_000 });
    const other = { ...open, timeoutMs: 20_000, operation: '', fingerprint: 'b' };
    await expect(idempotency.run('m', ran, other)).rejects.toThrow(IdempotencyMismatchError);
  });

  it('[ID-12] renews by one call per tick even if an earlier renewal was lost', async () => {
    const { idempotency } = await instances.start();
    const lost = proxy.loseReplies(on(renewScript));
    await idempotency.run('k', () => sleep(5_500), { leaseMs: 4_500 });
    expect(lost.count).toBe(1);
    await expect(idempotency.run('k', () => 'again')).resolves.toBeUndefined();
  });
});
