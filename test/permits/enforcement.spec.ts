import { setTimeout as sleep } from 'node:timers/promises';
import {
  InvalidArgumentError,
  LeaseLostError,
  type AtomicRedis,
  type AtomicRedisEvent,
  type Permit,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy, type RedisCommand } from 'nestjs-atomic-redis/testing';
import { countCommands } from '../support/command-stats.js';
import { holdRequest } from '../support/hold-request.js';
import { isScript } from '../support/is-script.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { slotKeysOf, usePermitApps } from './permits-app.js';

const NOTHING_APPLIED = { code: 'LEASE_LOST', outcome: 'not-applied', retryable: true };

describe('a permit that Redis enforces', () => {
  const redis = useRedis();
  const apps = usePermitApps();
  let proxy: FaultProxy;
  let atomic: AtomicRedis;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    atomic = await apps.start(proxy.url);
  });
  afterEach(async () => {
    proxy.reset();
    await proxy.stop();
  });

  /**
   * Gives the permit to another holder, as if its lease had ended, without the process learning of
   * it.
   */
  const passOn = async (): Promise<void> => {
    const [key] = await slotKeysOf(redis.client);
    await redis.client.set(key!, 'of another', 'PX', 60_000);
  };
  const failureOf = (running: Promise<unknown>): Promise<unknown> =>
    running.then(
      () => undefined,
      (error: unknown) => error,
    );
  const increment = (permit: Permit | 'current', during?: () => Promise<unknown>): Promise<number> =>
    atomic.transactions.run(
      ['n'],
      async (tx) => {
        const next = Number(await tx.read.get('n')) + 1;
        await during?.();
        tx.write.set('n', next);
        return next;
      },
      { permit },
    );

  describe('in transactions', () => {
    it('[PM-6] lets the holder write, in two round trips', async () => {
      const permit = await atomic.permits.acquire('p');
      await increment(permit);
      const before = proxy.roundTrips;
      expect(await increment(permit)).toBe(2);
      expect(proxy.roundTrips - before).toBe(2);
      expect(await permit.release()).toBe(true);
    });

    it('[PM-6] applies nothing of a holder that lost the permit before WATCH, and the error says so', async () => {
      const permit = await atomic.permits.acquire('p');
      await passOn();
      expect(await failureOf(increment(permit))).toMatchObject(NOTHING_APPLIED);
      expect(await redis.client.exists('n')).toBe(0);
    });

    it('[PM-6] applies nothing of a holder that lost the permit after WATCH', async () => {
      const permit = await atomic.permits.acquire('p');
      const failure = await failureOf(increment(permit, passOn));
      expect(failure).toBeInstanceOf(LeaseLostError);
      expect(failure).toMatchObject(NOTHING_APPLIED);
      expect(await redis.client.exists('n')).toBe(0);
    });

    it('[PM-6] applies nothing of a holder whose lease has ended, even if no other holds the permit', async () => {
      const permit = await atomic.permits.acquire('p');
      const failure = await failureOf(
        increment(permit, async () => {
          const [key] = await slotKeysOf(redis.client);
          await redis.client.del(key!);
        }),
      );
      expect(failure).toMatchObject(NOTHING_APPLIED);
      expect(await redis.client.exists('n')).toBe(0);
    });

    it('[PM-6] applies nothing once the permit was released', async () => {
      const permit = await atomic.permits.acquire('p');
      await permit.release();
      expect(await failureOf(increment(permit))).toMatchObject(NOTHING_APPLIED);
      expect(await redis.client.exists('n')).toBe(0);
    });

    it('[PM-6] is not disturbed by its own renewals: a long body commits without a conflict', async () => {
      const events: AtomicRedisEvent[] = [];
      atomic.events.subscribe((event) => events.push(event));
      const permit = await atomic.permits.acquire('p', { leaseMs: 3_000 });
      await increment(permit, () => sleep(4_000));
      expect(permit.signal.aborted).toBe(false);
      const ended = await waitFor('its event', () => events.find(({ type }) => type === 'transactions.run'));
      expect(ended).toMatchObject({ conflicts: 0, outcome: 'applied' });
      // Renewed again afterwards.
      const [key] = await slotKeysOf(redis.client);
      await waitFor('a renewal to its own length', async () => (await redis.client.pttl(key!)) <= 3_000);
      expect(await permit.release()).toBe(true);
    });

    it('[PM-6] commits transactions side by side under one permit', async () => {
      const permit = await atomic.permits.acquire('p', { leaseMs: 3_000 });
      const keys = Array.from({ length: 40 }, (_, i) => `k${i}`);
      await Promise.all(
        keys.map((key, i) =>
          sleep(i * 10).then(() =>
            atomic.transactions.run([key], (tx) => void tx.write.set(key, 1), { permit, maxAttempts: 5 }),
          ),
        ),
      );
      expect(await redis.client.exists(...keys)).toBe(40);
      expect(permit.signal.aborted).toBe(false);
    });

    it('[PM-6] [TX-14] is committed together with the idempotent run around it, or neither is', async () => {
      const both = (permit: Permit, during?: () => Promise<unknown>) =>
        atomic.transactions.run(
          ['n'],
          async (tx) => {
            await during?.();
            tx.write.incr('n');
            return 'done';
          },
          { permit, completesRun: (value) => value },
        );
      const permit = await atomic.permits.acquire('p');
      expect(await atomic.idempotency.run('a', () => both(permit))).toBe('done');
      expect(await redis.client.get('n')).toBe('1');
      expect(await failureOf(atomic.idempotency.run('b', () => both(permit, passOn)))).toMatchObject(
        NOTHING_APPLIED,
      );
      expect(await redis.client.get('n')).toBe('1');
      expect(await atomic.idempotency.run('a', () => 'again')).toBe('done');
      expect(await atomic.idempotency.run('b', () => 'again')).toBe('again');
    });

    it('[PM-6] is the surrounding permit if the option is the word current', async () => {
      expect(await atomic.permits.withPermit('p', () => increment('current'))).toBe(1);
      await expect(increment('current')).rejects.toThrow(InvalidArgumentError);
      const failure = failureOf(
        atomic.permits.withPermit('p', async () => {
          await passOn();
          return await increment('current');
        }),
      );
      expect(await failure).toMatchObject(NOTHING_APPLIED);
      expect(await redis.client.get('n')).toBe('1');
    });

    it('[PM-6] must be a permit, and of the same registration', async () => {
      const other = await apps.start(redis.server.url);
      const permit = await other.permits.acquire('p');
      await expect(increment(permit)).rejects.toThrow(InvalidArgumentError);
      await expect(increment({ ...permit })).rejects.toThrow(InvalidArgumentError);
      await expect(atomic.values.getAndSet('k', 'v', { permit })).rejects.toThrow(InvalidArgumentError);
      expect(await redis.client.exists('n', 'k')).toBe(0);
    });

    it('[PM-6] applies nothing of an EXEC that is delayed until another holds the permit', async () => {
      const permit = await atomic.permits.acquire('p');
      const isExec = { match: ({ name }: RedisCommand) => name === 'EXEC' };
      const held = holdRequest(proxy, isExec, passOn);
      const failure = await failureOf(increment(permit));
      await held;
      expect(failure).toMatchObject(NOTHING_APPLIED);
      expect(await redis.client.exists('n')).toBe(0);
    });
  });

  describe('in scripted calls', () => {
    it('[PM-7] covers addAll: applied while it is held, refused after its loss', async () => {
      const permit = await atomic.permits.acquire('p');
      const add = () => atomic.counters.addAll([{ key: 'n', amount: 2 }], { permit });
      expect((await add()).counters).toEqual([expect.objectContaining({ value: 2 })]);
      await passOn();
      expect(await failureOf(add())).toMatchObject(NOTHING_APPLIED);
      expect(await redis.client.get('n')).toBe('2');
    });

    it('[PM-7] [SC-6] are one EVALSHA if they are made together', async () => {
      const permit = await atomic.permits.acquire('p');
      const set = (value: string) => atomic.values.getAndSet('k', value, { permit });
      await set('first');
      const counts = await countCommands(redis.client, () => Promise.all(['a', 'b', 'c'].map(set)));
      expect(counts['evalsha']).toBe(1);
      expect(await redis.client.get('k')).toBe('c');
    });

    it('[PM-7] [PM-4] returns the result of a call that was applied under the permit, even if it was lost since', async () => {
      const permit = await atomic.permits.acquire('p');
      await atomic.values.getAndSet('k', 'first', { permit });
      const lost = proxy.loseReplies(isScript);
      const setting = atomic.values.getAndSet('k', 'second', { permit });
      await lost.triggered;
      await passOn();
      expect(await setting).toBe('first');
      expect(lost.count).toBe(1);
      expect(await redis.client.get('k')).toBe('second');
    });

    it('[PM-7] covers the reservation, settling and reset of limits', async () => {
      const permit = await atomic.permits.acquire('p');
      const limit = { key: 'l', limit: 10, perMs: 31_536_000_000 };
      const { id } = await atomic.limits.reserve({ ...limit, cost: 4 }, { ttlMs: 600_000, permit });
      await passOn();
      for (const refused of [
        () => atomic.limits.reserve(limit, { ttlMs: 600_000, permit }),
        () => atomic.limits.settle(id!, 1, { permit }),
        () => atomic.limits.reset(limit, { permit }),
      ])
        expect(await failureOf(refused())).toMatchObject(NOTHING_APPLIED);
      expect((await atomic.limits.peek(limit)).remaining).toBe(6);
    });

    it('[PM-7] refuses a waiting move, which no check could cover', async () => {
      const permit = await atomic.permits.acquire('p');
      await expect(atomic.lists.move('a', 'b', { permit, waitMs: 100 })).rejects.toThrow(
        InvalidArgumentError,
      );
    });

    it('[PM-7] is checked separately for each of several calls in one turn', async () => {
      const [held, lost] = [await atomic.permits.acquire('held'), await atomic.permits.acquire('lost')];
      await redis.client.del('atomic:permit-0:{lost}:lost');
      const results = await Promise.allSettled([
        atomic.values.getAndSet('a', '1', { permit: held }),
        atomic.values.getAndSet('b', '1', { permit: lost }),
        atomic.values.getAndSet('c', '1'),
      ]);
      expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
      expect(await redis.client.exists('a', 'b', 'c')).toBe(2);
    });
  });
});
