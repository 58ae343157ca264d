import { setTimeout as sleep } from 'node:timers/promises';
import { IdempotencyInFlightError, IdempotencyMismatchError, ModuleClosedError } from 'nestjs-atomic-redis';
import { startFaultProxy } from 'nestjs-atomic-redis/testing';
import { claimScript } from '../../lib/idempotency/claim.script.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { gate, on, useInstances } from './support.js';

describe('duplicates that wait', () => {
  const redis = useRedis();
  const instances = useInstances(() => ({
    connection: redis.server.url,
    namespace: 'atomic:',
    idempotency: { onDuplicate: 'wait', leaseMs: 30_000 },
  }));

  const recordOf = async (): Promise<string> => (await redis.client.keys('atomic:idempotency:*'))[0]!;
  /** Waiters of all instances, by what is subscribed to. */
  const subscribed = async (count: number): Promise<void> => {
    await waitFor(`${count} subscriptions`, async () => {
      const [, subscriptions] = (await redis.client.call('PUBSUB', 'SHARDNUMSUB', await recordOf())) as [
        string,
        number,
      ];
      return subscriptions === count;
    });
  };

  it('[ID-11] run once for 200 calls at two instances, and all get that result', async () => {
    const both = await Promise.all([instances.start(), instances.start()]);
    let runs = 0;
    const work = async (): Promise<object> => {
      runs++;
      await sleep(200);
      return { run: runs };
    };
    const calls = Array.from({ length: 200 }, (_, i) => both[i % 2]!.idempotency.run('k', work));
    const results = await Promise.all(calls);
    expect(runs).toBe(1);
    expect(new Set(results.map((result) => JSON.stringify(result)))).toEqual(new Set(['{"run":1}']));
    expect(await redis.client.pttl(await recordOf())).toBeGreaterThan(0);
  });

  it('[ID-11] are woken when the result is stored, and poll no more than necessary', async () => {
    const [first, second] = await Promise.all([instances.start(), instances.start()]);
    const took: number[] = [];
    for (let round = 0; round < 3; round++) {
      await redis.client.flushall();
      const { promise, resolve } = gate<string>();
      const holder = first.idempotency.run('k', () => promise);
      await waitFor('the run', recordOf);
      const counts = await countCommands(redis.client, async () => {
        const waiting = Array.from({ length: 50 }, () => second.idempotency.run('k', () => 'another'));
        await subscribed(1);
        await sleep(100);
        resolve('the one');
        const began = performance.now();
        expect(await Promise.all(waiting)).toEqual(Array<string>(50).fill('the one'));
        took.push(performance.now() - began);
      });
      await holder;
      expect(counts.ssubscribe).toBe(1);
      // 50 that found it running; then for all of them together one when subscribed, one when
      // woken; and the holder's completion. Others only where the machine stalls for longer than
      // the second between two questions.
      expect(counts.evalsha).toBeLessThanOrEqual(58);
    }
    // By asking again they would know after some 900 ms.
    expect(Math.min(...took)).toBeLessThan(500);
  });

  it('[ID-11] let one take over when the first run releases the key, and the others wait for it', async () => {
    const both = await Promise.all([instances.start(), instances.start()]);
    const { promise, reject } = gate<string>();
    const holder = both[0].idempotency.run('k', () => promise);
    await waitFor('the run', recordOf);
    let runs = 0;
    const waiting = Array.from({ length: 20 }, (_, i) =>
      both[i % 2]!.idempotency.run('k', async () => {
        runs++;
        await sleep(50);
        return `run ${runs}`;
      }),
    );
    await subscribed(2);
    reject(new Error('failed'));
    await expect(holder).rejects.toThrow('failed');
    expect(new Set(await Promise.all(waiting))).toEqual(new Set(['run 1']));
    expect(runs).toBe(1);
  });

  it('[ID-11] leave the owner undisturbed when they give up', async () => {
    const { idempotency, events } = await instances.start();
    const { promise, resolve } = gate<string>();
    const holder = idempotency.run('k', () => promise, { leaseMs: 60_000 });
    const record = await waitFor('the run', recordOf);
    const before = await redis.client.get(record);
    const waiting = idempotency.run('k', () => 'another', { waitTimeoutMs: 150 });
    const error = await waiting.catch((failure: unknown) => failure);
    expect(error).toBeInstanceOf(IdempotencyInFlightError);
    expect((error as IdempotencyInFlightError).retryAfterMs).toBe(1_000);
    expect(await redis.client.get(record)).toEqual(before);
    resolve('the one');
    expect(await holder).toBe('the one');
    await waitFor('the events', () => events.length === 2);
    expect(events).toMatchObject([
      { type: 'idempotency.duplicate', outcome: 'in-flight' },
      { type: 'idempotency.run', outcome: 'completed' },
    ]);
  });

  it('[ID-11] are refused for another payload, before the wait and after', async () => {
    const { idempotency } = await instances.start();
    const { promise, reject } = gate<string>();
    const run = (fingerprint: string, work: () => unknown = () => fingerprint) =>
      idempotency.run('k', work, { fingerprint });
    const holder = run('a', () => promise);
    await waitFor('the run', recordOf);
    await expect(run('b')).rejects.toThrow(IdempotencyMismatchError);
    const waiting = run('a');
    await subscribed(1);
    reject(new Error('failed'));
    await holder.catch(() => undefined);
    expect(await waiting).toBe('a');
    await expect(run('b')).rejects.toThrow(IdempotencyMismatchError);
  });

  it('[ID-11] take over when the lease of a dead owner ends', async () => {
    const [dead, alive] = await Promise.all([instances.start({ shutdownTimeoutMs: 1 }), instances.start()]);
    const never = dead.idempotency.run('k', () => new Promise(() => undefined), { leaseMs: 1_000 });
    never.catch(() => undefined);
    await waitFor('the run', recordOf);
    await dead.module.close();
    expect(await alive.idempotency.run('k', () => 'taken over')).toBe('taken over');
  });

  it('[ID-11] are woken if the client puts a prefix before every key', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    const { host, port } = proxy;
    const { idempotency, module } = await instances.start({ connection: { host, port, keyPrefix: 'app:' } });
    const took: number[] = [];
    for (const key of ['a', 'b', 'c']) {
      const { promise, resolve } = gate<string>();
      // The first call's, and the second's before and after it has subscribed.
      const claims = proxy.delay({ ...on(claimScript), times: 3 });
      const holder = idempotency.run(key, () => promise);
      await waitFor('the run', () => claims.count === 1);
      const call = idempotency.run(key, () => 'another');
      await waitFor('the question', () => claims.count === 3);
      const began = performance.now();
      resolve('the one');
      expect(await Promise.all([holder, call])).toEqual(['the one', 'the one']);
      took.push(performance.now() - began);
    }
    // By asking again each would know after a second.
    expect(Math.min(...took)).toBeLessThan(700);
    await module.close();
    await proxy.stop();
  });

  it('[ID-11] poll if the user may not subscribe', async () => {
    await redis.client.call('ACL', 'SETUSER', 'quiet', 'on', '>quiet', '~*', '+@all', 'resetchannels');
    const { host, port } = redis.server;
    const { idempotency } = await instances.start({ connection: `redis://quiet:quiet@${host}:${port}` });
    const { promise, resolve } = gate<string>();
    const holder = idempotency.run('k', () => promise);
    await waitFor('the run', recordOf);
    const call = idempotency.run('k', () => 'another');
    await sleep(50);
    resolve('the one');
    expect(await Promise.all([holder, call])).toEqual(['the one', 'the one']);
    await redis.client.call('ACL', 'DELUSER', 'quiet');
  });

  it('[ID-11] fail when the module closes', async () => {
    const { idempotency, events, module } = await instances.start({ shutdownTimeoutMs: 50 });
    const holder = idempotency.run('k', () => new Promise(() => undefined));
    holder.catch(() => undefined);
    await waitFor('the run', recordOf);
    const call = idempotency.run('k', () => 'another').catch((error: unknown) => error);
    await subscribed(1);
    await module.close();
    expect(await call).toBeInstanceOf(ModuleClosedError);
    await waitFor('the event', () => events.length === 1);
    expect(events).toMatchObject([{ type: 'idempotency.duplicate', outcome: 'failed' }]);
  });
});
