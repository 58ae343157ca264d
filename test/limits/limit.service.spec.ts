import type { TestingModule } from '@nestjs/testing';
import {
  AtomicRedis,
  IllegalTransactionStateError,
  InvalidArgumentError,
  LimitCostError,
  LimitService,
  NotReplicatedError,
  TransactionService,
  WrongTypeError,
  type Limit,
} from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { leaveLapsed } from './lapsed-reservations.js';

const ALGORITHMS = ['gcra', 'fixed', 'sliding'] as const;
/** So long that a test does not see anything of it pass, but at the border of a fixed window. */
const LONG_MS = 31_536_000_000;

describe('LimitService', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestingModule;
  let limits: LimitService;

  beforeAll(async () => {
    app = await boot({ connection: redis.server.url, timeoutMs: 20_000 });
    limits = app.get(LimitService);
  });

  const of = (more: Partial<Limit> = {}): Limit => ({ key: 'user:1', limit: 3, perMs: LONG_MS, ...more });

  it('[LM-1] is a field of the façade, too', () => {
    expect(app.get(AtomicRedis).limits).toBe(limits);
  });

  it.each(ALGORITHMS)(
    '[LM-1] accepts calls of %s up to the limit, and returns the remainder',
    async (algorithm) => {
      const one = of({ algorithm });
      const results = [];
      for (let i = 0; i < 4; i++) results.push(await limits.take(one));
      expect(results.map(({ allowed, remaining, limit }) => ({ allowed, remaining, limit }))).toEqual([
        { allowed: true, remaining: 2, limit: 3 },
        { allowed: true, remaining: 1, limit: 3 },
        { allowed: true, remaining: 0, limit: 3 },
        { allowed: false, remaining: 0, limit: 3 },
      ]);
      expect(results.slice(0, 3).map(({ retryAfterMs }) => retryAfterMs)).toEqual([0, 0, 0]);
      expect(results[3]!.retryAfterMs).toBeGreaterThan(0);
      expect(results[3]!.resetMs).toBeGreaterThanOrEqual(results[3]!.retryAfterMs);
      expect(results[3]!.resetMs).toBeLessThanOrEqual(LONG_MS * 1.1);
      expect((await limits.take(of({ algorithm, key: 'user:2' }))).allowed).toBe(true);
    },
  );

  it.each(ALGORITHMS)('[LM-1] takes the whole cost of a call of %s, or nothing', async (algorithm) => {
    expect(await limits.take(of({ algorithm, cost: 2 }))).toMatchObject({ allowed: true, remaining: 1 });
    expect(await limits.take(of({ algorithm, cost: 2 }))).toMatchObject({ allowed: false, remaining: 1 });
    expect(await limits.take(of({ algorithm }))).toMatchObject({ allowed: true, remaining: 0 });
  });

  it('[LM-1] separates limits that differ in key, algorithm or window, and shares equal ones', async () => {
    const names = [
      of(),
      of({ key: 'user:2' }),
      of({ algorithm: 'fixed' }),
      of({ algorithm: 'sliding' }),
      of({ perMs: LONG_MS - 1 }),
    ];
    for (const one of names) expect((await limits.take(one)).remaining).toBe(2);
    // A third of the time is used; of five that leaves three and a third, and one is taken.
    expect((await limits.take(of({ limit: 5 }))).remaining).toBe(2);
  });

  it('[LM-1] accepts a burst after a rest, and refills', async () => {
    const one: Limit = { key: 'b', limit: 1, perMs: 50, burst: 5 };
    expect((await limits.take({ ...one, cost: 5 })).remaining).toBe(0);
    await waitFor('the next', async () => (await limits.take(one)).allowed);
  });

  describe('several limits', () => {
    const user = of({ key: 'u' });
    const all = of({ key: 'all', limit: 4, algorithm: 'fixed' });

    it('[LM-5] are taken from all or from none, and name the one that refuses', async () => {
      expect(await limits.take([{ ...user, cost: 2 }, all])).toMatchObject({
        allowed: true,
        retryAfterMs: 0,
        limits: [
          { key: 'u', allowed: true, remaining: 1 },
          { key: 'all', allowed: true, remaining: 3 },
        ],
      });
      const refused = await limits.take([{ ...user, cost: 2 }, all]);
      expect(refused).toMatchObject({
        allowed: false,
        limits: [
          { allowed: false, remaining: 1 },
          { allowed: true, remaining: 3, retryAfterMs: 0 },
        ],
      });
      expect(refused.retryAfterMs).toBe(refused.limits[0]!.retryAfterMs);
      expect((await limits.peek(all)).remaining).toBe(3);
    });

    it('[LM-5] share one round trip, and calls made together do, too', async () => {
      await limits.peek(user);
      const counts = await countCommands(redis.client, () =>
        Promise.all(Array.from({ length: 50 }, (_, i) => limits.take([of({ key: `k${i % 5}` }), all]))),
      );
      // Two lanes.
      expect(counts['evalsha']).toBeLessThanOrEqual(2);
      expect((await limits.peek(all)).remaining).toBe(0);
    });

    it('[LM-5] share batches of a bounded number of limits, and a call on more travels alone', async () => {
      const small = await boot({
        connection: redis.server.url,
        timeoutMs: 20_000,
        limits: { maxBatchSize: 6 },
      });

      const service = small.get(LimitService);
      const many = (n: number, count: number): Limit[] => [
        of({ key: 'first', limit: 1_000 }),
        ...Array.from({ length: count - 1 }, (_, i) => of({ key: `${n}.${i}` })),
      ];
      const takeAll = (counts: readonly number[]) =>
        countCommands(redis.client, () =>
          Promise.all(counts.map((count, n) => service.take(many(n, count)))),
        );
      expect((await takeAll(Array<number>(10).fill(3)))['evalsha']).toBe(5);
      expect((await takeAll([1, 64, 2, 4, 1]))['evalsha']).toBe(4);
      expect((await service.peek(of({ key: 'first', limit: 1_000 }))).remaining).toBe(985);
    });

    it('[LM-5] are applied in order within a batch: a refused call uses up nothing', async () => {
      const results = await Promise.all(
        Array.from({ length: 9 }, (_, i) => limits.take([of({ key: `k${i % 3}` }), all])),
      );
      expect(results.filter(({ allowed }) => allowed)).toHaveLength(4);
    });

    // The last: by their names, `a` and `c` travel in one lane.
    it.each(['a, ab, a', 'ab, a, ab', 'ab, ac, ab', 'ab, a, a', 'ac, c, ac'])(
      '[LM-5] are applied in order even if calls share some of them: %s',
      async (calls) => {
        const byName: Record<string, Limit> = {
          a: of({ key: 'a', limit: 2 }),
          b: of({ key: 'b', algorithm: 'fixed' }),
          c: of({ key: 'c', limit: 2 }),
        };
        if (calls === 'ab, a, a') {
          // A call that finds what has lapsed is sent again, and those behind it wait for it.
          await limits.reserve(byName['b']!, { ttlMs: LONG_MS });
          await leaveLapsed(redis.client, byName['b']!, 1);
        }
        const taken = calls
          .split(', ')
          .map((names) => limits.take(names.split('').map((name) => byName[name]!)));
        expect((await Promise.all(taken)).map(({ allowed }) => allowed)).toEqual([true, true, false]);
      },
    );

    it('[LM-5] are distinct for any characters in their keys', async () => {
      const calls = Array.from({ length: 8 }, (_, i) => {
        const named = (key: string): Limit => of({ key: `{${i}}${key}`, limit: 1 });
        // Between the names of both limits stands what stands inside of one.
        const inside = `\natomic:limit:g${LONG_MS}:{${i}}:{${i}}`;
        return [
          [named('a'), named(`b${inside}c`)],
          [named(`a${inside}b`), named('c')],
        ];
      }).flat();
      const results = await Promise.all(calls.map((call) => limits.take(call)));
      expect(results.filter(({ allowed }) => allowed)).toHaveLength(calls.length);
    });
  });

  it('[LM-1] reads without taking, and resets', async () => {
    expect(await limits.peek(of())).toEqual({
      allowed: true,
      remaining: 3,
      retryAfterMs: 0,
      resetMs: 0,
      limit: 3,
    });
    expect(await redis.client.keys('*')).toEqual([]);
    await limits.take(of({ cost: 3 }));
    expect(await limits.peek([of()])).toMatchObject({
      allowed: false,
      limits: [{ key: 'user:1', remaining: 0 }],
    });
    expect(await limits.reset(of())).toBe(true);
    expect(await limits.reset({ key: 'user:1', perMs: LONG_MS })).toBe(false);
    expect((await limits.take(of())).remaining).toBe(2);
  });

  it.each([
    ['gcra', { limit: 100, perMs: 60_000, cost: 50 }, 30_000],
    ['fixed', { limit: 100, perMs: 60_000 }, 60_000],
    ['sliding', { limit: 100, perMs: 60_000 }, 66_000],
  ] as const)(
    '[LM-6] stores one small key with an expiry for a limit of %s',
    async (algorithm, more, ttlMs) => {
      await limits.take(of({ algorithm, ...more }), { deduplicate: false });
      const [key, ...others] = await redis.client.keys('*');
      expect(others).toEqual([]);
      const left = await redis.client.pttl(key!);
      expect(left).toBeGreaterThan(0);
      expect(left).toBeLessThanOrEqual(ttlMs + 1);
      if (algorithm === 'gcra') expect(left).toBeGreaterThan(ttlMs - 5_000);
      await limits.take(of({ algorithm, ...more }), { deduplicate: false });
      expect(await redis.client.pttl(key!)).toBeGreaterThan(0);
    },
  );

  it('[LM-6] stores at most eleven numbers for a sliding limit', async () => {
    const one = of({ algorithm: 'sliding', limit: 1_000_000, perMs: 2_000 });
    await waitFor('more than a window', async () => {
      await limits.take(one, { deduplicate: false });
      const [key] = await redis.client.keys('*');
      const value = await redis.client.get(key!);
      expect(value!.split(',').length).toBeLessThanOrEqual(11);
      return value!.split(',').length === 11;
    });
  });

  it('[LM-6] keeps one state per lane, however many calls there are', async () => {
    for (let i = 0; i < 20; i++) await limits.take(of({ key: `k${i}` }));
    expect((await redis.client.keys('atomic:producer:*')).length).toBeLessThanOrEqual(2);
  });

  it.each<[string, unknown, string]>([
    ['no key', { limit: 1, perMs: 1 }, 'limit.key'],
    ['a limit of 0', of({ limit: 0 }), 'limit.limit'],
    ['a limit that is no integer', of({ limit: 1.5 }), 'limit.limit'],
    ['a cost of 0', of({ cost: 0 }), 'limit.cost'],
    ['no window', of({ perMs: 0 }), 'limit.perMs'],
    ['another algorithm', of({ algorithm: 'leaky' as 'gcra' }), 'limit.algorithm'],
    ['a burst of a fixed window', of({ algorithm: 'fixed', burst: 2 }), 'limit.burst'],
    ['a burst that never refills', of({ burst: 1_000_000_000 }), 'limit.burst'],
    ['an unknown option', { ...of(), per: 1 }, 'limit.per'],
    ['no limits', [], 'limits'],
    ['one limit twice', [of(), of({ limit: 9 })], 'limits[1]'],
  ])('[LM-7] refuses %s before any I/O', async (_, given, argument) => {
    const counts = await countCommands(redis.client, async () => {
      const refused = await limits.take(given as Limit).catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(InvalidArgumentError);
      expect(refused).toMatchObject({ argument });
    });
    expect(counts['evalsha']).toBeUndefined();
  });

  it('[LM-7] refuses a cost that could never be accepted, before any I/O', async () => {
    const refused = await limits.take(of({ cost: 4 })).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(LimitCostError);
    expect(refused).toMatchObject({ cost: 4, most: 3, outcome: 'not-applied', retryable: false });
    await expect(limits.take(of({ cost: 4, burst: 4 }))).resolves.toMatchObject({ allowed: true });
    await expect(limits.peek(of({ cost: 4 }))).rejects.toThrow(LimitCostError);
  });

  it('[LM-7] reports a key of another type, without affecting other calls of the batch', async () => {
    await limits.take(of());
    const [key] = await redis.client.keys('atomic:limit:*');
    await redis.client.del(key!);
    await redis.client.rpush(key!, 'x');
    const calls = await Promise.allSettled([limits.take(of()), limits.take(of({ key: 'user:2' }))]);
    expect(calls).toMatchObject([{ reason: { key: 'user:1' } }, { value: { allowed: true } }]);
    expect((calls[0] as PromiseRejectedResult).reason).toBeInstanceOf(WrongTypeError);
    await redis.client.set(key!, 'garbage');
    await expect(limits.take([of({ key: 'user:2' }), of()])).rejects.toThrow(WrongTypeError);
    expect((await limits.peek(of({ key: 'user:2' }))).remaining).toBe(2);
  });

  it('[LM-7] reports missing rights as such, and not as a wrong type', async () => {
    const { url } = redis.server;
    await redis.client.acl('SETUSER', 'unread', 'on', '>secret', '~*', '&*', '+@all', '-get');
    const user = new URL(url);
    [user.username, user.password] = ['unread', 'secret'];
    const module = await boot({ connection: user.href });
    try {
      const refused = module.get(LimitService);
      for (const call of [() => refused.take(of()), () => refused.peek(of())])
        await expect(call()).rejects.toMatchObject({ code: 'REDIS_REPLY' });
    } finally {
      await module.close();
      await redis.client.acl('DELUSER', 'unread');
    }
  });

  it('[LM-7] reports missing write rights when a peek must first give back lapsed reservations', async () => {
    const one = of({ algorithm: 'fixed', limit: 2_000 });
    await limits.reserve(one, { ttlMs: LONG_MS });
    await leaveLapsed(redis.client, one, 1_001);
    await redis.client.acl('SETUSER', 'reader', 'on', '>secret', '%R~*', '&*', '+@all');
    const user = new URL(redis.server.url);
    [user.username, user.password] = ['reader', 'secret'];
    const module = await boot({ connection: user.href });
    try {
      const reading = module.get(LimitService);
      await expect(reading.peek(one)).rejects.toMatchObject({ code: 'REDIS_REPLY', reply: 'NOPERM' });
      await limits.peek(one);
      expect((await reading.peek(one)).remaining).toBe(1_999);
    } finally {
      await module.close();
      await redis.client.acl('DELUSER', 'reader');
    }
  });

  it('[LM-7] is refused inside a transaction, whose attempts would take again', async () => {
    const transactions = app.get(TransactionService);
    const inside = transactions.run(['k'], () => limits.take(of()));
    await expect(inside).rejects.toThrow(IllegalTransactionStateError);
    const { id } = await limits.reserve(of({ key: 'held' }), { ttlMs: LONG_MS });
    for (const [call, told] of [
      [() => limits.reserve(of(), { ttlMs: LONG_MS }), /Reserving from limit "user:1"/],
      [() => limits.settle(id!, 0), /Settling a reservation of limit "held"/],
      [() => limits.reset(of()), /Resetting limit "user:1"/],
    ] as const)
      await expect(transactions.run(['k'], call as () => Promise<unknown>)).rejects.toThrow(told);
    let attempts = 0;
    await transactions.run(['k'], () => ((attempts += 1), limits.take(of(), { propagation: 'outside' })));
    // A busy machine may need a second attempt.
    expect((await limits.peek(of())).remaining).toBe(Math.max(0, 3 - attempts));
  });

  it('[LM-8] waits for replicas on request, and returns the taken amount', async () => {
    const durability = { replicas: 1, timeoutMs: 50 };
    const error = await limits.take(of(), { durability }).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(NotReplicatedError);
    expect((error as NotReplicatedError).result).toMatchObject({ allowed: true, remaining: 2 });
  });
});
