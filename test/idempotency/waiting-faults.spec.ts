import { IdempotencyInFlightError, RedisUnavailableError } from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { claimScript } from '../../lib/idempotency/claim.script.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { gate, on, useInstances, type Instance } from './support.js';

describe('duplicates that wait while their connection fails', () => {
  const redis = useRedis();
  let proxy: FaultProxy;
  let holding: Instance;
  const instances = useInstances(() => ({
    connection: proxy.url,
    namespace: 'atomic:',
    idempotency: { onDuplicate: 'wait' },
  }));

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    holding = await instances.start({ connection: redis.server.url });
  });

  afterEach(() => proxy.stop());

  const subscriptions = async (count: number): Promise<void> => {
    await waitFor(`${count} subscriptions`, async () => {
      const channels = (await redis.client.call('PUBSUB', 'SHARDCHANNELS')) as string[];
      return channels.length === count;
    });
  };
  /** A run by the instance whose connection is sound, until its end is given. */
  const hold = async () => {
    const end = gate<string>();
    const holder = holding.idempotency.run('k', () => end.promise);
    await waitFor('the run', async () => (await holding.idempotency.inspect('k')) !== null);
    return { ...end, holder };
  };

  it.each(['before', 'after'])(
    '[ID-11] get a result that is stored %s a lost subscription is restored, and leave none behind',
    async (when) => {
      const { idempotency } = await instances.start();
      const { holder, resolve } = await hold();
      const call = idempotency.run('k', () => 'another');
      await subscriptions(1);
      // Otherwise a subscription could be restored before its loss was seen.
      proxy.refuseConnections(true);
      proxy.disconnectAll();
      await subscriptions(0);
      if (when === 'before') {
        resolve('the one');
        await holder;
      }
      proxy.reset();
      if (when === 'after') await subscriptions(1);
      resolve('the one');
      expect(await Promise.all([holder, call])).toEqual(['the one', 'the one']);
      await subscriptions(0);
    },
  );

  it('[ID-10] [ID-11] do not run beside the first call when Redis is away as their wait ends', async () => {
    const { idempotency, events } = await instances.start({
      idempotency: { onDuplicate: 'wait', onUnavailable: 'run', waitTimeoutMs: 4_000, timeoutMs: 2_000 },
    });
    const { holder, resolve } = await hold();
    const ran = jest.fn();
    const call = idempotency.run('k', ran).catch((error: unknown) => error);
    await subscriptions(1);
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    expect(await call).toBeInstanceOf(RedisUnavailableError);
    expect(ran).not.toHaveBeenCalled();
    await waitFor('the event', () => events.length === 1);
    expect(events).toMatchObject([{ type: 'idempotency.duplicate', outcome: 'failed' }]);
    proxy.reset();
    resolve('the one');
    await holder;
  });

  it('[ID-11] [ID-17] release a key that arrives after their wait, and no run is reported', async () => {
    const { idempotency, events } = await instances.start({
      idempotency: { onDuplicate: 'wait', waitTimeoutMs: 2_000, timeoutMs: 20_000 },
    });
    const { holder, reject } = await hold();
    // Before and after it has subscribed.
    const questions = proxy.delay({ ...on(claimScript), times: 2 });
    const call = idempotency.run('k', () => 'ran').catch((error: unknown) => error);
    await waitFor('the questions', () => questions.count === 2);
    // From now on it asks once a second, so that no question is on its way when the rule begins.
    await subscriptions(1);
    const late = proxy.delay({ ...on(claimScript), replyMs: 5_000, times: Infinity });
    await holding.idempotency.inspect('k');
    reject(new Error('failed'));
    await expect(holder).rejects.toThrow('failed');
    expect(await call).toBeInstanceOf(IdempotencyInFlightError);
    late.cancel();
    expect(await holding.idempotency.inspect('k')).toMatchObject({ state: 'running' });
    await waitFor('the key', async () => (await holding.idempotency.inspect('k')) === null);
    expect(await idempotency.run('k', () => 'next')).toBe('next');
    await waitFor('the events', () => events.length >= 2);
    expect(events).toMatchObject([
      { type: 'idempotency.duplicate', outcome: 'in-flight' },
      { type: 'idempotency.run', outcome: 'completed' },
    ]);
  });
});
