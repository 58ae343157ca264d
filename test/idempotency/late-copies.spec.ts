import { AtomicRedis, RedisUnavailableError, type IdempotentRun } from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { claimScript } from '../../lib/idempotency/claim.script.js';
import { completeScript } from '../../lib/idempotency/complete.script.js';
import { completion } from '../../lib/idempotency/record-text.js';
import { renewScript } from '../../lib/idempotency/renew.script.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { gate, on, useInstances, type Instance } from './support.js';

describe('messages that arrive late', () => {
  const redis = useRedis();
  let proxy: FaultProxy;
  let far: Instance;
  const instances = useInstances(() => ({ connection: redis.server.url, namespace: 'atomic:' }));

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    far = await instances.start({ connection: proxy.url, idempotency: { timeoutMs: 10_000 } });
    await far.idempotency.run('warm-up', () => 1);
  });

  afterEach(() => proxy.stop());

  it('[ID-3] a copy of the claim does not take a released key again', async () => {
    const { idempotency } = far;
    const fault = proxy.deliverLate(400, on(claimScript));
    const run = idempotency.run('k', () => {
      throw new Error('failed');
    });
    await expect(run).rejects.toThrow('failed');
    expect(await fault.delivered).toBe(true);
    expect(await idempotency.inspect('k')).toBeNull();
    expect(await idempotency.run('k', () => 'ran')).toBe('ran');
  });

  it('[ID-3] a copy of the claim does not take a key again whose lease has ended', async () => {
    const near = await instances.start();
    const fault = proxy.deliverLate(2_500, on(claimScript));
    // Its lease ends, as if its process stood still.
    proxy.cutBeforeServer({ ...on(renewScript), times: Infinity });
    const { promise, resolve } = gate();
    const run = far.idempotency.run('k', () => promise, { leaseMs: 600 });
    expect(await fault.delivered).toBe(true);
    expect(await near.idempotency.inspect('k')).toBeNull();
    resolve();
    await run.catch(() => undefined);
  });

  it('[ID-3] a copy of a renewal does not take a released key again', async () => {
    const { idempotency } = far;
    const fault = proxy.deliverLate(500, on(renewScript));
    const run = idempotency.run(
      'k',
      async () => {
        await waitFor('the renewal', () => fault.count === 1);
        throw new Error('failed');
      },
      { leaseMs: 3_000 },
    );
    await expect(run).rejects.toThrow('failed');
    expect(await fault.delivered).toBe(true);
    expect(await idempotency.inspect('k')).toBeNull();
    expect(await idempotency.run('k', () => 'ran')).toBe('ran');
  });

  it('[ID-3] a copy of a renewal does not take a forgotten key again', async () => {
    const { idempotency } = far;
    const fault = proxy.deliverLate(500, on(renewScript));
    const work = (): Promise<boolean> => waitFor('the renewal', () => fault.count === 1);
    await idempotency.run('k', work, { leaseMs: 3_000 });
    expect(await idempotency.forget('k')).toBe(true);
    expect(await fault.delivered).toBe(true);
    expect(await idempotency.inspect('k')).toBeNull();
    expect(await idempotency.run('k', () => 'ran')).toBe('ran');
  });

  it('[ID-3] a copy of the completion restores no deleted record, and completes one that its run still owns', async () => {
    const owner = { token: 'owner', fingerprint: ':x' };
    const { running, ttlMs, kind, done } = completion(owner, { kind: 'value', bytes: '1' }, 60_000);
    const values = ['record', Date.now() - 1_000, running, ttlMs, kind, done];
    const late = () => redis.client.call('EVAL', [completeScript.lua, 1, ...values]);
    expect(await late()).toBe('TOO_LATE');
    expect(await redis.client.exists('record')).toBe(0);
    await redis.client.set('record', running, 'PX', 60_000);
    expect(await late()).toBe('completed');
    expect(await redis.client.get('record')).toBe(done);
  });

  it.each([
    ['its method', {}],
    ['a transaction', { completesRun: () => 'done' }],
  ])('[ID-50] a copy of a renewal does not revive a run with steps that %s ended', async (_, options) => {
    const { idempotency, module } = far;
    const { transactions } = module.get(AtomicRedis);
    const fault = proxy.deliverLate(500, on(renewScript));
    const work = async (run: IdempotentRun): Promise<string> => {
      await run.step('x', () => 1);
      await waitFor('the renewal', () => fault.count === 1);
      await transactions.run(['a'], () => undefined, options);
      return 'done';
    };
    await idempotency.run('k', work, { leaseMs: 3_000, ttlMs: 50 });
    expect(await fault.delivered).toBe(true);
    const again = await idempotency.run('k', ({ attempt }) => `attempt ${attempt}`);
    expect(again).toBe('done');
  });

  it('[ID-8] a result also reaches a call whose lease would have ended by then', async () => {
    const { idempotency } = far;
    await idempotency.run('k', () => 'done');
    // Left after some 350 ms, and asked again.
    const slow = proxy.delay({ ...on(claimScript), replyMs: 1_800 });
    const work = jest.fn();
    const options = { leaseMs: 200, onUnavailable: 'run' } as const;
    expect(await idempotency.run('k', work, options)).toBe('done');
    expect(slow.count).toBe(1);
    expect(work).not.toHaveBeenCalled();
  });

  it('[ID-8] no work starts under a lease that may have ended before its claim was answered', async () => {
    const near = await instances.start();
    proxy.delay({ ...on(claimScript), replyMs: 1_800 });
    const ran = jest.fn();
    // A silent connection is left after some 350 ms, and the claim is answered on another one: by
    // then half the lease is over.
    const late = far.idempotency.run('k', ran, { leaseMs: 500 });
    await expect(late).rejects.toThrow(RedisUnavailableError);
    expect(ran).not.toHaveBeenCalled();
    const next = near.idempotency.run('k', () => 'of the next', { onDuplicate: 'wait' });
    expect(await next).toBe('of the next');
    expect(await near.idempotency.run('k', ran)).toBe('of the next');
  });
});
