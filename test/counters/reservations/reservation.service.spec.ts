import type { TestingModule } from '@nestjs/testing';
import {
  CounterLimitError,
  CounterOverflowError,
  CounterService,
  UnsafeIntegerError,
  InvalidArgumentError,
  NotAnIntegerError,
  RedisReplyError,
  ReservationService,
  IllegalTransactionStateError,
  TransactionService,
} from 'nestjs-atomic-redis';
import { useApp } from '../../support/app.js';
import { countCommands } from '../../support/command-stats.js';
import { useRedis } from '../../support/redis.js';
import { waitFor } from '../../support/wait-for.js';

const HOLDS = 'atomic:holds:{stock}:stock';
const LONG = { ttlMs: 600_000 };

describe('ReservationService', () => {
  const boot = useApp();
  const redis = useRedis();
  let apps: TestingModule[];
  let reservations: ReservationService;
  let others: ReservationService;
  let counters: CounterService;

  beforeAll(async () => {
    const start = () => boot({ connection: redis.server.url });
    apps = await Promise.all([start(), start()]);
    [reservations, others] = apps.map((app) => app.get(ReservationService)) as [
      ReservationService,
      ReservationService,
    ];
    counters = apps[0]!.get(CounterService);
  });

  beforeEach(() => redis.client.set('stock', 10));

  const stored = async (): Promise<number> => Number(await redis.client.get('stock'));

  /** Moves the hold's expiry into the past. */
  const expire = async (id: string): Promise<void> => {
    const hold = Buffer.from(id, 'base64url').toString().split(':').slice(0, 2).join(':');
    expect(await redis.client.zadd(HOLDS, 'XX', 'CH', 1, hold)).toBe(1);
  };

  describe('a hold', () => {
    it('[RS-1] takes from the available amount, and returns the remainder and its expiry', async () => {
      const before = Date.now();
      const hold = await reservations.hold('stock', 3, LONG);
      expect(hold).toEqual({
        id: expect.any(String),
        quantity: 3,
        available: 7,
        expiresAtMs: expect.any(Number),
      });
      expect(hold.expiresAtMs).toBeGreaterThanOrEqual(before + 600_000 - 1);
      expect(hold.expiresAtMs).toBeLessThanOrEqual(Date.now() + 600_000);
      expect(await stored()).toBe(7);
      expect(await others.available('stock')).toBe(7);
      expect(await others.list('stock')).toEqual([
        { id: hold.id, quantity: 3, expiresAtMs: hold.expiresAtMs },
      ]);
    });

    it('[RS-1] is refused when too little would remain, and takes nothing', async () => {
      const holding = reservations.hold('stock', 11, LONG);
      await expect(holding).rejects.toThrow(CounterLimitError);
      await expect(holding).rejects.toMatchObject({ key: 'stock', current: 10, requested: -11, bound: 0 });
      await expect(reservations.hold('stock', 6, { ...LONG, min: 5 })).rejects.toThrow(CounterLimitError);
      await expect(reservations.hold('none', 1, LONG)).rejects.toThrow(CounterLimitError);
      expect(await stored()).toBe(10);
      expect(await redis.client.exists(HOLDS, 'none')).toBe(0);
      expect(await reservations.available('none')).toBe(0);
    });

    it('[RS-1] may go below zero when allowed, even on a counter that does not exist', async () => {
      expect(await reservations.hold('stock', 12, { ...LONG, min: -2 })).toMatchObject({ available: -2 });
      const { id } = await reservations.hold('none', 2, { ...LONG, min: -2n });
      expect(await reservations.available('none')).toBe(-2);
      expect(await reservations.release(id)).toBe(true);
      expect(await redis.client.get('none')).toBe('0');
    });

    it('[RS-1] of one unit is granted to exactly 100 of 400 concurrent callers of a stock of 100', async () => {
      await redis.client.set('stock', 100);
      const results = await Promise.allSettled(
        Array.from({ length: 400 }, (_, i) => (i % 2 ? reservations : others).hold('stock', 1, LONG)),
      );
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(100);
      expect(await stored()).toBe(0);
      expect(await reservations.list('stock')).toHaveLength(100);
    });

    it('[RS-3] stays taken once confirmed, and the confirmation counts once', async () => {
      const { id } = await reservations.hold('stock', 3, LONG);
      expect(await others.confirm(id)).toBe(true);
      expect(await reservations.confirm(id)).toBe(false);
      expect(await reservations.release(id)).toBe(false);
      expect(await reservations.extend(id, 1_000)).toBe(false);
      expect(await stored()).toBe(7);
      expect(await redis.client.exists(HOLDS)).toBe(0);
    });

    it('[RS-3] is given back once when released', async () => {
      const { id } = await reservations.hold('stock', 3, LONG);
      const twice = await Promise.all([reservations.release(id), others.release(id)]);
      expect(twice.toSorted()).toEqual([false, true]);
      expect(await reservations.confirm(id)).toBe(false);
      expect(await stored()).toBe(10);
    });

    it('[RS-3] is extended from the moment of the call, and never shortened', async () => {
      const { id, expiresAtMs } = await reservations.hold('stock', 3, { ttlMs: 60_000 });
      const until = async (): Promise<number> => (await reservations.list('stock'))[0]!.expiresAtMs;
      expect(await reservations.extend(id, 1_000)).toBe(true);
      expect(await until()).toBe(expiresAtMs);
      expect(await reservations.extend(id, 600_000)).toBe(true);
      expect(await until()).toBeGreaterThan(expiresAtMs + 500_000);
    });

    it('[RS-2] returns its amount when it expires', async () => {
      const kept = await reservations.hold('stock', 1, LONG);
      const { id } = await reservations.hold('stock', 3, { ttlMs: 50 });
      await waitFor('the expiry', async () => (await reservations.available('stock')) === 9);
      // Counted by a read, and not written by it.
      expect(await stored()).toBe(6);
      expect(await counters.get('stock')).toBe(9);
      expect(await reservations.list('stock')).toMatchObject([{ id: kept.id }]);
      expect(await reservations.confirm(id)).toBe(false);
      expect(await stored()).toBe(9);
      expect(await redis.client.zcard(HOLDS)).toBe(1);
    });

    it.each<[string, () => Promise<unknown>, number]>([
      ['an add', () => counters.add('stock', 1), 11],
      ['an add at a bound that it lifts', () => counters.add('stock', -10, { min: 0 }), 0],
      ['an add that is refused', () => counters.add('stock', -11, { min: 0 }), 10],
      ['several adds', () => counters.addAll([{ key: 'stock', amount: -10, min: 0 }]), 0],
      ['another hold', () => reservations.hold('stock', 10, LONG), 0],
      ['a hold that is refused', () => reservations.hold('stock', 11, LONG).catch(() => undefined), 10],
    ])('[RS-2] is returned, once expired, by %s', async (_, touch, left) => {
      await redis.client.pexpire('stock', 500_000);
      const { id } = await reservations.hold('stock', 3, LONG);
      await expire(id);
      await touch();
      expect(await stored()).toBe(left);
      expect(await redis.client.zscore(HOLDS, '3')).toBeNull();
      expect(await redis.client.pttl('stock')).toBeGreaterThan(400_000);
      for (const settle of [reservations.confirm(id), reservations.release(id), reservations.extend(id, 1)])
        expect(await settle).toBe(false);
      expect(await stored()).toBe(left);
    });

    it.each(['release', 'confirm', 'extend'] as const)(
      '[RS-2] is invisible from its expiry to %s',
      async (action) => {
        const { id } = await reservations.hold('stock', 3, LONG);
        await expire(id);
        const settled = action === 'extend' ? reservations.extend(id, 1_000) : reservations[action](id);
        expect(await settled).toBe(false);
        expect(await stored()).toBe(10);
      },
    );
  });

  describe('a counter that ends', () => {
    it.each<[string, () => Promise<unknown>, number]>([
      ['reset', () => counters.reset('stock'), 0],
      ['reset and begun again', () => Promise.all([counters.reset('stock'), counters.add('stock', 50)]), 50],
      [
        'reset and set by another client',
        () => counters.reset('stock').then(() => redis.client.set('stock', 50)),
        50,
      ],
      ['deleted', () => redis.client.del('stock'), 0],
      ['deleted and begun again', () => redis.client.del('stock').then(() => counters.add('stock', 50)), 50],
      [
        'deleted and begun again by several adds',
        () => redis.client.del('stock').then(() => counters.addAll([{ key: 'stock', amount: 50 }])),
        50,
      ],
    ])('[RS-5] ends its holds too: %s', async (_, end, value) => {
      const ids = [];
      for (let i = 0; i < 4; i++) ids.push((await reservations.hold('stock', 1, LONG)).id);
      await expire(ids[3]!);
      await end();
      expect(await reservations.list('stock')).toEqual([]);
      expect(await reservations.release(ids[0]!)).toBe(false);
      expect(await reservations.confirm(ids[1]!)).toBe(false);
      expect(await reservations.extend(ids[2]!, 1_000)).toBe(false);
      expect(await reservations.available('stock')).toBe(value);
      expect(Number(await redis.client.get('stock'))).toBe(value);
      expect(await redis.client.exists(HOLDS)).toBe(0);
    });

    it('[RS-5] includes the amount of its expired holds in the result of reset()', async () => {
      await expire((await reservations.hold('stock', 3, LONG)).id);
      expect(await counters.reset('stock')).toBe(10);
    });

    it('[RS-5] gives its time to live to the set of its holds', async () => {
      await reservations.hold('stock', 1, LONG);
      expect(await redis.client.pttl(HOLDS)).toBe(-1);
      await redis.client.pexpire('stock', 500_000);
      await reservations.hold('stock', 1, LONG);
      expect(await redis.client.pttl(HOLDS)).toBeGreaterThan(500_000);
      for (const key of await redis.client.keys('atomic:operation:*'))
        expect(await redis.client.pttl(key)).toBeGreaterThan(0);
      await counters.add('stock', 1, { ttlMs: 5_000_000, ttl: 'sliding' });
      expect(await redis.client.pttl(HOLDS)).toBeGreaterThan(5_000_000);
    });
  });

  describe('very many expired holds', () => {
    const MANY = 2_500;

    beforeEach(async () => {
      await redis.client.set('stock', 0);
      const members = Array.from({ length: MANY }, (_, i) => [i + 1, `2:${String(i).padStart(22, '0')}`]);
      await redis.client.zadd(HOLDS, ...members.flat());
      // By now every script has been loaded.
      await counters.get('warm');
    });

    it('[RS-6] are counted by a read in steps of at most 1,000, and a read returns none', async () => {
      const counts = await countCommands(redis.client, async () => {
        expect(await reservations.available('stock')).toBe(2 * MANY);
      });
      expect(counts.evalsha_ro).toBe(3);
      expect(counts).not.toHaveProperty('evalsha');
      expect(await redis.client.zcard(HOLDS)).toBe(MANY);
    });

    it('[RS-6] are returned in steps of at most 1,000', async () => {
      const counts = await countCommands(redis.client, async () => {
        expect(await counters.add('stock', 0)).toMatchObject({ value: 2 * MANY });
      });
      expect(counts.evalsha).toBe(3);
      expect(counts.zremrangebyrank).toBe(3);
      expect(await stored()).toBe(2 * MANY);
      expect(await redis.client.exists(HOLDS)).toBe(0);
    });

    it.each<[string, () => Promise<unknown>]>([
      ['add', () => counters.add('stock', -2 * MANY, { min: 0 })],
      ['add without a marker', () => counters.add('stock', -2 * MANY, { min: 0, deduplicate: false })],
      [
        'addAll',
        () =>
          counters.addAll([
            { key: 'other', amount: 1 },
            { key: 'stock', amount: -2 * MANY, min: 0 },
          ]),
      ],
      ['hold', () => reservations.hold('stock', 2 * MANY, LONG)],
    ])('[RS-6] are all counted by %s', async (_, take) => {
      const counts = await countCommands(redis.client, take);
      expect(counts.zremrangebyrank).toBe(3);
      expect(await stored()).toBe(0);
    });

    it('[RS-6] are returned once by concurrent callers', async () => {
      await Promise.all(
        Array.from({ length: 40 }, (_, i) =>
          i % 2 ? counters.add('stock', 1) : (i % 4 ? reservations : others).available('stock'),
        ),
      );
      expect(await reservations.available('stock')).toBe(2 * MANY + 20);
      expect(await stored()).toBe(2 * MANY + 20);
    });
  });

  describe('at the bounds of 64 bits', () => {
    it('[RS-1] refuses results that are not exact as numbers', async () => {
      await redis.client.set('stock', String(2n ** 53n + 5n));
      await expect(reservations.hold('stock', 1, LONG)).rejects.toThrow(UnsafeIntegerError);
      await expect(reservations.available('stock')).rejects.toThrow(UnsafeIntegerError);
      expect(await redis.client.get('stock')).toBe(String(2n ** 53n + 5n));
      const far = reservations.hold('none', 1, { ...LONG, min: -(2n ** 63n) });
      expect(await far).toMatchObject({ available: -1 });
    });

    it('[RS-1] keeps an amount held while returning it would overflow', async () => {
      const { id } = await reservations.hold('stock', 3, LONG);
      const expired = await reservations.hold('stock', 4, LONG);
      await redis.client.set('stock', String(2n ** 63n - 2n));
      await expect(reservations.release(id)).rejects.toThrow(CounterOverflowError);
      await expire(expired.id);
      expect(await counters.getBigInt('stock')).toBe(2n ** 63n - 2n);
      expect(await reservations.release(expired.id)).toBe(false);
      await counters.add('stock', -(2n ** 62n));
      expect(await counters.getBigInt('stock')).toBe(2n ** 62n - 2n + 4n);
      expect(await reservations.release(id)).toBe(true);
      expect(await counters.getBigInt('stock')).toBe(2n ** 62n - 2n + 7n);
    });
  });

  it.each(['abc', '1.5'])('[RS-7] leaves a value that is no counter unchanged (%j)', async (garbage) => {
    const { id } = await reservations.hold('stock', 3, LONG);
    await redis.client.set('stock', garbage);
    for (const call of [
      reservations.hold('stock', 1, LONG),
      reservations.confirm(id),
      reservations.release(id),
      reservations.available('stock'),
    ])
      await expect(call).rejects.toThrow(NotAnIntegerError);
    expect(await redis.client.get('stock')).toBe(garbage);
  });

  it('[RS-3] rejects an id of a hold that it did not issue', async () => {
    const { id } = await reservations.hold('stock', 3, LONG);
    const text = Buffer.from(id, 'base64url').toString();
    const encode = (forged: string): string => Buffer.from(forged).toString('base64url');
    const sent = await countCommands(redis.client, async () => {
      for (const forged of [
        'x',
        `${id}=`,
        `${id} `,
        encode(text.replace(/:stock$/, ':')),
        encode(text.replace('3:', '-3:')),
        encode(text.replace('3:', '03:')),
        encode(text.replace('3:', ':')),
        encode('{}'),
      ])
        expect(await reservations.release(forged)).toBe(false);
    });
    expect(sent).toEqual({});
    for (const forged of [text.replace('3:', '9:'), text.replace(/:stock$/, ':other'), `${text}}{`])
      expect(await reservations.release(encode(forged))).toBe(false);
    expect(await stored()).toBe(7);
    expect(await redis.client.exists('other')).toBe(0);
    await redis.client.rpush('list', 'x');
    expect(await reservations.confirm(encode(text.replace(/:stock$/, ':list')))).toBe(false);
  });

  it('[RS-7] takes one round trip for each call', async () => {
    let { id } = await reservations.hold('stock', 1, LONG);
    await reservations.list('stock');
    const calls: (() => Promise<unknown>)[] = [
      async () => ({ id } = await reservations.hold('stock', 1, LONG)),
      () => reservations.extend(id, 1_000),
      () => reservations.list('stock'),
      () => reservations.available('stock'),
      () => reservations.confirm(id),
    ];
    for (const call of calls) {
      const counts = await countCommands(redis.client, call);
      expect((counts.evalsha ?? 0) + (counts.evalsha_ro ?? 0)).toBe(1);
      expect(counts).not.toHaveProperty('eval');
    }
  });

  it('[RS-7] does nothing when Redis is out of memory', async () => {
    const { id } = await reservations.hold('stock', 1, LONG);
    await redis.client.config('SET', 'maxmemory', '1');
    try {
      for (const marker of [true, false]) {
        await expect(reservations.hold('stock', 1, { ...LONG, deduplicate: marker })).rejects.toThrow(
          RedisReplyError,
        );
        await expect(reservations.release(id, { deduplicate: marker })).rejects.toThrow(RedisReplyError);
      }
      expect(await stored()).toBe(9);
      expect(await redis.client.zcard(HOLDS)).toBe(1);
    } finally {
      await redis.client.config('SET', 'maxmemory', '0');
    }
    expect(await reservations.release(id)).toBe(true);
  });

  it('[RS-7] is refused inside a transaction, except for reads', async () => {
    const transactions = apps[0]!.get(TransactionService);
    const { id } = await reservations.hold('stock', 1, LONG);
    const calls: (() => Promise<unknown>)[] = [
      () => reservations.hold('stock', 1, LONG),
      () => reservations.confirm(id),
      () => reservations.extend(id, 1),
    ];
    for (const call of calls)
      await expect(transactions.run(['x'], call)).rejects.toThrow(IllegalTransactionStateError);
    expect(await transactions.run(['x'], () => reservations.available('stock'))).toBe(9);
  });

  it.each<[string, (of: ReservationService) => Promise<unknown>, string]>([
    ['an empty key', (of) => of.hold('', 1, LONG), 'key'],
    ['no quantity', (of) => of.hold('k', undefined as never, LONG), 'quantity'],
    ['a quantity of 0', (of) => of.hold('k', 0, LONG), 'quantity'],
    ['a negative quantity', (of) => of.hold('k', -1, LONG), 'quantity'],
    ['a fraction', (of) => of.hold('k', 1.5, LONG), 'quantity'],
    ['a bigint', (of) => of.hold('k', 1n as never, LONG), 'quantity'],
    ['no options', (of) => of.hold('k', 1, undefined as never), 'options'],
    ['no ttlMs', (of) => of.hold('k', 1, {} as never), 'options.ttlMs'],
    ['a ttlMs of 0', (of) => of.hold('k', 1, { ttlMs: 0 }), 'options.ttlMs'],
    ['a min of NaN', (of) => of.hold('k', 1, { ...LONG, min: Number.NaN }), 'options.min'],
    ['an unknown option', (of) => of.hold('k', 1, { ...LONG, max: 1 } as never), 'options.max'],
    ['no id', (of) => of.confirm(undefined as never), 'id'],
    ['an empty id', (of) => of.release(''), 'id'],
    ['an extension of 0', (of) => of.extend('x', 0), 'ttlMs'],
    ['a timeoutMs of 0', (of) => of.release('x', { timeoutMs: 0 }), 'options.timeoutMs'],
    ['an empty key to list', (of) => of.list(''), 'key'],
    ['an empty key to read', (of) => of.available(''), 'key'],
  ])('[RS-7] refuses %s before any command', async (_, call, argument) => {
    const counts = await countCommands(redis.client, async () => {
      await expect(call(reservations)).rejects.toThrow(InvalidArgumentError);
      await expect(call(reservations)).rejects.toMatchObject({ argument });
    });
    expect(counts).toEqual({});
  });
});
