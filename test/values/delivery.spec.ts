import type { TestingModule } from '@nestjs/testing';
import type { Redis } from 'ioredis';
import {
  AtomicRedisError,
  NotReplicatedError,
  OutcomeUnknownError,
  RedisReplyError,
  IllegalTransactionStateError,
  ValueService,
  WrongTypeError,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { useApp } from '../support/app.js';
import { startClusterBehindProxies } from '../support/cluster-behind-proxies.js';
import { countCommands } from '../support/command-stats.js';
import { isScript } from '../support/is-script.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { inTransaction } from '../support/in-transaction.js';

/**
 * A call, its expected answer, and a later change by another client that a copy must leave alone.
 */
interface Case {
  readonly title: string;
  readonly before?: (client: Redis) => Promise<unknown>;
  readonly call: (
    values: ValueService,
    options?: { timeoutMs?: number; deduplicate?: boolean },
  ) => Promise<unknown>;
  readonly answer: unknown;
  readonly since: (client: Redis) => Promise<unknown>;
  /** True if it answers with the current value and not the previous one: after `since`. */
  readonly answerSince?: unknown;
}

const CASES: Case[] = [
  {
    title: 'compareAndSet that swaps',
    before: (client) => client.set('k', 'a'),
    call: (values, options) => values.compareAndSet('k', 'a', 'b', options),
    answer: { swapped: true, current: 'b' },
    since: (client) => client.set('k', 'a'),
  },
  {
    title: 'compareAndSet that creates',
    call: (values, options) => values.compareAndSet('k', null, 'b', options),
    answer: { swapped: true, current: 'b' },
    since: (client) => client.del('k'),
  },
  {
    title: 'compareAndSet that is refused',
    before: (client) => client.set('k', 'z'),
    call: (values, options) => values.compareAndSet('k', 'a', 'b', options),
    answer: { swapped: false, current: 'z' },
    since: (client) => client.set('k', 'a'),
    answerSince: { swapped: false, current: 'a' },
  },
  {
    title: 'compareAndDelete that deletes',
    before: (client) => client.set('k', 'a'),
    call: (values, options) => values.compareAndDelete('k', 'a', options),
    answer: { deleted: true, current: null },
    since: (client) => client.set('k', 'a'),
  },
  {
    title: 'compareAndDelete that is refused',
    call: (values, options) => values.compareAndDelete('k', 'a', options),
    answer: { deleted: false, current: null },
    since: (client) => client.set('k', 'a'),
    answerSince: { deleted: false, current: 'a' },
  },
  {
    title: 'compareAndSetField that swaps',
    before: (client) => client.hset('k', 'f', 'a'),
    call: (values, options) => values.compareAndSetField('k', 'f', 'a', 'b', options),
    answer: { swapped: true, current: 'b' },
    since: (client) => client.hset('k', 'f', 'a'),
  },
  {
    title: 'compareAndSetField that is refused',
    before: (client) => client.hset('k', 'f', 'z'),
    call: (values, options) => values.compareAndSetField('k', 'f', 'a', 'b', options),
    answer: { swapped: false, current: 'z' },
    since: (client) => client.hset('k', 'f', 'a'),
    answerSince: { swapped: false, current: 'a' },
  },
  {
    title: 'compareAndDeleteField that deletes',
    before: (client) => client.hset('k', { f: 'a', g: 'b' }),
    call: (values, options) => values.compareAndDeleteField('k', 'f', 'a', options),
    answer: { deleted: true, current: null },
    since: (client) => client.hset('k', 'f', 'a'),
  },
  {
    title: 'getAndSet',
    before: (client) => client.set('k', 'a'),
    call: (values, options) => values.getAndSet('k', 'b', options),
    answer: 'a',
    since: (client) => client.set('k', 'c'),
  },
  {
    title: 'getAndSet that creates',
    call: (values, options) => values.getAndSet('k', 'b', options),
    answer: null,
    since: (client) => client.set('k', 'c'),
  },
  {
    title: 'getAndDelete',
    before: (client) => client.set('k', 'a'),
    call: (values, options) => values.getAndDelete('k', options),
    answer: 'a',
    since: (client) => client.set('k', 'c'),
  },
  {
    title: 'getAndDelete that finds nothing',
    call: (values, options) => values.getAndDelete('k', options),
    answer: null,
    since: (client) => client.set('k', 'c'),
  },
  {
    title: 'getAndExpire',
    before: (client) => client.set('k', 'a'),
    call: (values, options) => values.getAndExpire('k', { ttlMs: 100_000, ...options }),
    answer: 'a',
    since: (client) => client.set('k', 'c'),
  },
  {
    title: 'getAndExpire of a value that is over at once',
    before: (client) => client.set('k', 'a'),
    call: (values, options) => values.getAndExpire('k', { expireAt: 0, ...options }),
    answer: 'a',
    since: (client) => client.set('k', 'c'),
  },
  {
    title: 'getAndExpire that finds nothing',
    call: (values, options) => values.getAndExpire('k', { ttlMs: 100_000, ...options }),
    answer: null,
    since: (client) => client.set('k', 'c'),
  },
];

describe('a value whose connection fails', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: TestingModule;
  let values: ValueService;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    app = await boot({ connection: proxy.url, timeoutMs: 10_000 });
    values = app.get(ValueService);
  });

  afterEach(() => proxy.stop());

  const state = async (): Promise<unknown> => [
    await redis.client.call('DUMP', 'k'),
    (await redis.client.pttl('k')) > 0,
  ];

  describe.each(CASES)('$title', ({ before, call, answer, since, answerSince = answer }) => {
    beforeEach(async () => {
      await before?.(redis.client);
    });

    it('[VAL-5] takes effect once when its reply is lost, and returns that first answer', async () => {
      const fault = proxy.loseReplies(isScript);
      proxy.refuseConnections(true);
      const calling = call(values);
      await fault.triggered;
      await since(redis.client);
      const left = await state();
      proxy.refuseConnections(false);
      expect(await calling).toEqual(answerSince);
      expect(fault.count).toBe(1);
      expect(await state()).toEqual(left);
    });

    it('[VAL-5] does nothing when a copy arrives after the original was answered', async () => {
      const late = proxy.deliverLate(300, isScript);
      expect(await call(values)).toEqual(answer);
      await since(redis.client);
      const left = await state();
      expect(await late.delivered).toBe(true);
      expect(await state()).toEqual(left);
    });

    it('[VAL-5] does nothing when it arrives after its deadline', async () => {
      const left = await state();
      const late = proxy.deliverLate(600, isScript);
      proxy.refuseConnections(true);
      await expect(call(values, { timeoutMs: 200 })).rejects.toThrow(OutcomeUnknownError);
      expect(await late.delivered).toBe(true);
      expect(await state()).toEqual(left);
    });

    it('[VAL-6] takes one round trip, even if it is refused, and leaves no key without a time to live', async () => {
      const counts = await countCommands(redis.client, async () =>
        expect(await call(values)).toEqual(answer),
      );
      expect(counts['evalsha']).toBe(1);
      const [marker, ...more] = await redis.client.keys('atomic:operation:*');
      expect(more).toEqual([]);
      const ttl = await redis.client.pttl(marker!);
      expect(ttl).toBeGreaterThan(60_000);
      expect(ttl).toBeLessThan(71_000);
    });

    it('[VAL-6] does the same without a marker, and leaves no marker behind', async () => {
      expect(await call(values, { deduplicate: false })).toEqual(answer);
      expect(await redis.client.keys('atomic:*')).toEqual([]);
    });
  });

  it('[VAL-5] repeats its refusal of a key of another type, even after the type was corrected', async () => {
    await redis.client.rpush('k', 'a');
    const fault = proxy.loseReplies(isScript);
    proxy.refuseConnections(true);
    const calling = Promise.allSettled([values.getAndDelete('k')]);
    await fault.triggered;
    await redis.client.set('k', 'a');
    proxy.refuseConnections(false);
    expect(await calling).toMatchObject([{ reason: expect.any(WrongTypeError) }]);
    expect(await redis.client.get('k')).toBe('a');
  });

  it('[VAL-5] reports that nothing was done when Redis was never reached', async () => {
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    // One that may have been written before the end of the connection was noticed.
    await expect(values.getAndDelete('k', { timeoutMs: 50 })).rejects.toBeInstanceOf(AtomicRedisError);
    await expect(values.getAndDelete('k', { timeoutMs: 200 })).rejects.toMatchObject({
      outcome: 'not-applied',
    });
  });

  it('[VAL-5] runs once when the server forgets its scripts', async () => {
    for (const { before, call, answer } of CASES) {
      await redis.client.flushall();
      await before?.(redis.client);
      await redis.client.script('FLUSH');
      expect(await call(values)).toEqual(answer);
    }
  });

  it('waits while another client’s script keeps Redis busy, and gives up with nothing done', async () => {
    await redis.client.config('SET', 'busy-reply-threshold', 10);
    await redis.client.set('k', 'a');
    const busy = redis.client.duplicate();
    const spinning = busy.eval('while true do end', 0).catch((error: unknown) => error);
    try {
      await waitFor('Redis is busy', () =>
        redis.client.ping().then(
          () => false,
          (error: Error) => error.message.startsWith('BUSY'),
        ),
      );
      // The last time it asks, the answer may come too late to be known.
      await expect(values.compareAndSet('k', 'a', 'never', { timeoutMs: 300 })).rejects.toBeInstanceOf(
        AtomicRedisError,
      );
      const calling = values.compareAndSet('k', 'a', 'b', { timeoutMs: 20_000 });
      await redis.client.script('KILL');
      expect(await calling).toEqual({ swapped: true, current: 'b' });
    } finally {
      await redis.client.script('KILL').catch(() => undefined);
      await spinning;
      busy.disconnect();
    }
  });

  it('waits for replicas when asked to, and returns its result even if they do not acknowledge', async () => {
    const durability = { replicas: 1, timeoutMs: 50 };
    const swap = await values.compareAndSet('k', null, 'a', { durability }).catch((error: unknown) => error);
    expect(swap).toBeInstanceOf(NotReplicatedError);
    expect(swap).toMatchObject({ outcome: 'applied', result: { swapped: true, current: 'a' } });
    const taken = await values.getAndDelete('k', { durability }).catch((error: unknown) => error);
    expect(taken).toMatchObject({ outcome: 'applied', result: 'a' });
  });

  it('is refused inside a transaction, whose attempts would each repeat it', async () => {
    const inside = inTransaction(() => values.getAndSet('k', 'b'));
    await expect(inside).rejects.toThrow(IllegalTransactionStateError);
    const outside = inTransaction(() => values.getAndSet('k', 'b', { propagation: 'outside' }));
    expect(await outside).toBeNull();
  });

  describe('near the memory limit', () => {
    const LARGE = Buffer.alloc(5_000_000, 1);
    const usage = async (): Promise<number> =>
      Number(/used_memory_dataset:(\d+)/.exec(await redis.client.info('memory'))![1]);
    const markerBytes = async (): Promise<number> => {
      const [marker] = await redis.client.keys('atomic:operation:*');
      return (await redis.client.call('MEMORY', 'USAGE', marker!)) as number;
    };

    it('[VAL-7] is all or nothing when Redis is out of memory', async () => {
      for (const { before, call, title } of CASES) {
        for (const marker of [true, false]) {
          await redis.client.flushall();
          await before?.(redis.client);
          const left = [await state(), await redis.client.dbsize()];
          await redis.client.config('SET', 'maxmemory', 1);
          const [settled] = await Promise.allSettled([call(values, { deduplicate: marker })]);
          await redis.client.config('SET', 'maxmemory', 0);
          const now = [await state(), await redis.client.dbsize()];
          if (settled.status === 'rejected') {
            expect([title, settled.reason]).toEqual([title, expect.any(RedisReplyError)]);
            expect(settled.reason).toMatchObject({ reply: 'OOM', outcome: 'not-applied' });
            expect([title, now]).toEqual([title, left]);
          }
          // Calls that free memory still work.
          if (title === 'getAndDelete') expect(settled).toEqual({ status: 'fulfilled', value: 'a' });
          else if (marker) expect([title, settled.status]).toEqual([title, 'rejected']);
        }
      }
    });

    it('[VAL-7] never holds a value twice that was taken away', async () => {
      await redis.client.set('k', LARGE);
      await redis.client.set('l', LARGE);
      const before = await usage();
      expect(LARGE.equals((await values.getAndDelete('k', { encoding: 'buffer' }))!)).toBe(true);
      expect(LARGE.equals((await values.getAndSet('l', 'small', { encoding: 'buffer' }))!)).toBe(true);
      expect((await usage()) - before).toBeLessThan(2_000_000);
      expect(await redis.client.get('l')).toBe('small');
    });

    it('[VAL-7] never holds a copy of a value that a comparison refuses', async () => {
      await redis.client.set('k', LARGE);
      const { swapped, current } = await values.compareAndSet('k', 'a', 'b', { encoding: 'buffer' });
      expect([swapped, LARGE.equals(current!)]).toEqual([false, true]);
      expect(await markerBytes()).toBeLessThan(300);
    });
  });
});

describe('a value on a Cluster', () => {
  const boot = useApp();
  it('[VAL-5] takes effect once when replies are lost', async () => {
    const { cluster, proxies, connection, stop } = await startClusterBehindProxies();
    const client = cluster.connect() as unknown as Redis;
    const app = await boot({ connection, timeoutMs: 20_000 });
    try {
      const values = app.get(ValueService);
      for (const { title, before, call, answer } of CASES) {
        await client.del('k');
        await before?.(client);
        for (const proxy of proxies) proxy.loseReplies(isScript);
        expect([title, await call(values)]).toEqual([title, answer]);
        for (const proxy of proxies) proxy.reset();
      }
    } finally {
      client.disconnect();
      await app.close();
      await stop();
    }
  });
});
