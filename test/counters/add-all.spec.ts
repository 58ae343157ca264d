import type { TestingModule } from '@nestjs/testing';
import { fc } from '../support/property.js';
import {
  CounterOverflowError,
  CounterService,
  UnsafeIntegerError,
  InvalidArgumentError,
  NotAnIntegerError,
  OutcomeUnknownError,
  RedisReplyError,
  IllegalTransactionStateError,
  TransactionService,
  type CounterAddition,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { useApp } from '../support/app.js';
import { startCluster, type TestCluster } from '../support/cluster.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

const scripts = { match: ({ name }: { name: string }): boolean => name === 'EVALSHA' };

describe('CounterService.addAll', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let apps: TestingModule[];
  let counters: CounterService;
  let other: CounterService;

  beforeAll(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    apps = await Promise.all([proxy.url, redis.server.url].map((connection) => boot({ connection })));
    [counters, other] = apps.map((app) => app.get(CounterService)) as [CounterService, CounterService];
  });

  afterEach(() => proxy.reset());

  afterAll(() => proxy.stop());

  const values = async (...keys: string[]): Promise<(string | null)[]> => redis.client.mget(keys);

  const take = (key: string, n: number): CounterAddition<number> => ({ key, amount: -n, min: 0 });

  it('[CT-11] adds to all counters', async () => {
    await redis.client.mset({ a: 5, b: 7 });
    expect(
      await counters.addAll([take('a', 2), take('b', 7), { key: 'c', amount: 1, ttlMs: 50_000 }]),
    ).toEqual({
      applied: true,
      counters: [
        { key: 'a', value: 3, applied: -2, limited: false },
        { key: 'b', value: 0, applied: -7, limited: false },
        { key: 'c', value: 1, applied: 1, limited: false },
      ],
    });
    expect(await values('a', 'b', 'c')).toEqual(['3', '0', '1']);
    expect(await redis.client.pttl('c')).toBeGreaterThan(40_000);
  });

  it('[CT-11] adds the amounts it was given, even if the caller changes the array afterwards', async () => {
    const adds = [{ key: 'a', amount: 1 }];
    const adding = counters.addAll(adds);
    adds[0]!.amount = 5;
    adds.length = 0;
    expect(await adding).toMatchObject({ counters: [{ key: 'a', value: 1, applied: 1 }] });
  });

  it('[CT-11] adds to none when some are at a bound, names those, creates no key and touches no time to live', async () => {
    await redis.client.mset({ a: 5, b: 1 });
    const adds = [
      take('a', 2),
      take('b', 2),
      take('c', 1),
      { key: 'd', amount: 1, ttlMs: 1, ttl: 'sliding' as const },
    ];
    expect(await counters.addAll(adds)).toEqual({
      applied: false,
      counters: [
        { key: 'a', value: 5, applied: 0, limited: false },
        { key: 'b', value: 1, applied: 0, limited: true },
        { key: 'c', value: 0, applied: 0, limited: true },
        { key: 'd', value: 0, applied: 0, limited: false },
      ],
    });
    expect(await values('a', 'b', 'c', 'd')).toEqual(['5', '1', null, null]);
  });

  it('[CT-11] clamps one counter without keeping back the others', async () => {
    await redis.client.mset({ a: 5, b: 1 });
    const result = await counters.addAll([{ ...take('b', 3), onLimit: 'clamp' }, take('a', 1)]);
    expect(result.applied).toBe(true);
    expect(result.counters).toMatchObject([
      { value: 0, applied: -1, limited: true },
      { value: 4, applied: -1, limited: false },
    ]);
  });

  it('[CT-11] returns numbers for numbers and bigints for bigints, and throws when a result is not exact', async () => {
    const big = 2n ** 62n;
    await redis.client.mset({ a: String(big), b: 1 });
    expect(await counters.addAll([{ key: 'a', amount: 1n }, take('b', 1)])).toMatchObject({
      counters: [{ value: big + 1n }, { value: 0 }],
    });
    await redis.client.set('c', String(2n ** 53n + 5n));
    for (const [key, adds] of [
      ['a', [take('b', -5), { key: 'a', amount: 1 }]],
      // It would become exact, but another at its bound keeps it as it is.
      ['c', [take('b', 5), { key: 'c', amount: -10 }]],
    ] as const) {
      const inexact = counters.addAll(adds);
      await expect(inexact).rejects.toThrow(UnsafeIntegerError);
      await expect(inexact).rejects.toMatchObject({ key });
    }
    const overflow = counters.addAll([take('b', -5), { key: 'a', amount: 2n ** 62n }]);
    await expect(overflow).rejects.toThrow(CounterOverflowError);
    await expect(overflow).rejects.toMatchObject({ key: 'a', requested: 2n ** 62n });
    expect(await values('a', 'b')).toEqual([String(big + 1n), '0']);
  });

  it.each(['abc', '1.5', '9223372036854775808'])(
    '[CT-7] leaves all counters unchanged when one holds %j',
    async (garbage) => {
      await redis.client.mset({ a: 5, b: garbage });
      const adding = counters.addAll([take('a', 1), take('b', 1)]);
      await expect(adding).rejects.toThrow(NotAnIntegerError);
      await expect(adding).rejects.toMatchObject({ key: 'b', found: 'other-string' });
      await redis.client.del('b');
      await redis.client.rpush('b', 'x');
      await expect(counters.addAll([take('a', 1), take('b', 1)])).rejects.toMatchObject({
        found: 'other-type',
      });
      expect(await redis.client.get('a')).toBe('5');
    },
  );

  it('[CT-11] never sells a part of a cart or more than the stock, with concurrent callers in any order', async () => {
    const stock = { a: 60, b: 45, c: 30, d: 20 };
    await redis.client.mset(stock);
    const names = Object.keys(stock);
    const carts = Array.from({ length: 200 }, (_, i) => {
      const size = (i % 4) + 1;
      const rotated = [...names.slice(i % 3), ...names.slice(0, i % 3)].slice(0, size);
      return (i % 2 ? rotated.toReversed() : rotated).map((key, j) => take(key, (j % 2) + 1));
    });
    // Single adds in between, whose batches take no notice of carts.
    const singles = Promise.all(
      names.flatMap((key) => [counters.add(key, -1, { min: 0 }), other.add(key, 1)]),
    );
    const results = await Promise.all(carts.map((cart, i) => (i % 2 ? counters : other).addAll(cart)));
    const sold: Record<string, number> = {};
    for (const { key, applied } of results.flatMap((one) => one.counters))
      sold[key] = (sold[key] ?? 0) - applied;
    results.forEach(({ applied, counters: lines }, i) => {
      expect(lines.map((line) => line.applied)).toEqual(
        carts[i]!.map(({ amount }) => (applied ? amount : 0)),
      );
      expect(lines.some(({ limited }) => limited)).toBe(!applied);
    });
    const alone = await singles;
    const left = (await values(...names)).map(Number);
    names.forEach((name, i) => {
      const single = alone[2 * i]!.applied + alone[2 * i + 1]!.applied;
      expect(left[i]).toBe(stock[name as keyof typeof stock] - sold[name]! + single);
      expect(left[i]).toBeGreaterThanOrEqual(0);
    });
    expect(results.some(({ applied }) => !applied)).toBe(true);
  });

  it('[CT-5] [CT-11] decides as a model in bigints does', async () => {
    const MIN = -(2n ** 63n);
    const MAX = 2n ** 63n - 1n;
    const int64 = fc.oneof(
      fc.bigInt({ min: MIN, max: MAX }),
      fc.bigInt({ min: -9n, max: 9n }),
      fc.constantFrom(MIN, MIN + 1n, MAX, MAX - 1n, 2n ** 53n, -(2n ** 53n) - 1n),
    );
    const line = fc.record({
      start: fc.option(int64),
      amount: int64,
      max: fc.option(int64, { nil: undefined }),
      onLimit: fc.constantFrom('skip' as const, 'clamp' as const),
    });
    let runs = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(line, { minLength: 1, maxLength: 6 }), async (lines) => {
        const run = runs++;
        const adds = lines.map(({ amount, max, onLimit }, i) => ({
          key: `${run}:${i}`,
          amount,
          max,
          onLimit,
        }));
        for (const [i, { start }] of lines.entries())
          if (start !== null) await redis.client.set(`${run}:${i}`, String(start));

        const judged = lines.map(({ start, amount, max, onLimit }) => {
          const now = start ?? 0n;
          const limited = amount > 0n && max !== undefined && now + amount > max;
          const fits = onLimit === 'clamp' && max !== undefined && max > now ? max : now;
          return {
            now,
            limited,
            target: limited ? fits : now + amount,
            rejects: limited && onLimit === 'skip',
          };
        });
        const overflows = judged.some(({ target }) => target > MAX || target < MIN);
        const applied = !overflows && !judged.some(({ rejects }) => rejects);
        const answer = await counters.addAll(adds).catch((error: unknown) => error);
        if (overflows) expect(answer).toBeInstanceOf(CounterOverflowError);
        else
          expect(answer).toEqual({
            applied,
            counters: judged.map(({ now, target, limited }, i) => ({
              key: `${run}:${i}`,
              value: applied ? target : now,
              applied: applied ? target - now : 0n,
              limited,
            })),
          });
        expect(await values(...adds.map(({ key }) => key))).toEqual(
          judged.map(({ now, target }, i) => {
            const end = applied ? target : now;
            return lines[i]!.start === null && end === 0n ? null : String(end);
          }),
        );
      }),
      { numRuns: 200 },
    );
  });

  describe('undo', () => {
    it('[CT-8] takes back exactly the applied amount of each counter, once', async () => {
      await redis.client.mset({ a: 5, b: 1 });
      const { undo } = await counters.addAllUndoable([take('a', 2), { ...take('b', 3), onLimit: 'clamp' }]);
      await other.add('a', 100);
      expect(await values('a', 'b')).toEqual(['103', '0']);
      expect(await undo()).toBe(true);
      expect(await undo()).toBe(true);
      expect(await values('a', 'b')).toEqual(['105', '1']);
    });

    it('[CT-8] takes back the others when one counter is gone, and reports false', async () => {
      await redis.client.mset({ a: 5, b: 5 });
      const { undo } = await counters.addAllUndoable([take('a', 2), take('b', 2)]);
      await Promise.all([counters.reset('a'), counters.add('a', 50)]);
      expect(await undo()).toBe(false);
      expect(await values('a', 'b')).toEqual(['50', '5']);
    });

    it('[CT-8] has nothing to take back when nothing was added', async () => {
      const { applied, undo } = await counters.addAllUndoable([take('a', 2), { key: 'b', amount: 1 }]);
      expect(applied).toBe(false);
      expect(await undo()).toBe(true);
      expect(await values('a', 'b')).toEqual([null, null]);
    });
  });

  describe('over connections that fail', () => {
    it('[CT-2] counts once when the reply is lost, and returns that first answer', async () => {
      await redis.client.mset({ a: 5, b: 5 });
      const fault = proxy.loseReplies(scripts);
      proxy.refuseConnections(true);
      const adding = counters.addAll([take('a', 2), take('b', 2)]);
      await waitFor('the add', async () => (await redis.client.get('a')) === '3');
      await other.add('a', 100);
      proxy.refuseConnections(false);
      expect(await adding).toMatchObject({ applied: true, counters: [{ value: 3 }, { value: 3 }] });
      expect(fault.count).toBe(1);
      expect(await values('a', 'b')).toEqual(['103', '3']);
    });

    it('[CT-2] refuses once too, even if a copy would find enough', async () => {
      await redis.client.mset({ a: 1, b: 5 });
      proxy.loseReplies(scripts);
      proxy.refuseConnections(true);
      const adding = counters.addAll([take('a', 2), take('b', 2)]);
      await waitFor('the refusal', async () => (await redis.client.keys('atomic:operation:*')).length === 1);
      await other.add('a', 100);
      proxy.refuseConnections(false);
      expect(await adding).toMatchObject({ applied: false, counters: [{ value: 1, limited: true }, {}] });
      expect(await values('a', 'b')).toEqual(['101', '5']);
    });

    it('[CT-3] changes nothing after its time-out', async () => {
      await redis.client.mset({ a: 5, b: 5 });
      const late = proxy.deliverLate(700, scripts);
      proxy.refuseConnections(true);
      await expect(counters.addAll([take('a', 2), take('b', 2)], { timeoutMs: 200 })).rejects.toThrow(
        OutcomeUnknownError,
      );
      expect(await late.delivered).toBe(true);
      expect(await values('a', 'b')).toEqual(['5', '5']);
    });

    it('[CT-2] neither disturbs the batches of its counters nor is disturbed by them', async () => {
      const faults = proxy.loseReplies({ ...scripts, times: 6 });
      const work = Array.from({ length: 120 }, async (_, i) => {
        for (let tick = 0; tick < i / 8; tick++) await new Promise(setImmediate);
        if (i % 3 === 0)
          await counters.addAll([
            { key: 'a', amount: 1 },
            { key: 'b', amount: 1 },
          ]);
        else await counters.add(i % 3 === 1 ? 'a' : 'b', 1);
      });
      await Promise.all(work);
      expect(faults.count).toBeGreaterThan(0);
      expect(await values('a', 'b')).toEqual(['80', '80']);
    });
  });

  it('[CT-11] takes one round trip for 512 counters', async () => {
    await counters.addAll([take('warm', 0)]);
    const adds = Array.from({ length: 512 }, (_, i) => ({ key: `n${i}`, amount: i + 1 }));
    const counts = await countCommands(redis.client, () => counters.addAll(adds));
    expect(counts).toMatchObject({ evalsha: 1 });
    expect(counts).not.toHaveProperty('eval');
    expect(await values('n0', 'n511')).toEqual(['1', '512']);
    for (const key of await redis.client.keys('atomic:*'))
      expect(await redis.client.pttl(key)).toBeGreaterThan(0);
  });

  it('[CT-11] does nothing when Redis is out of memory', async () => {
    await redis.client.mset({ a: 5, b: 5 });
    await counters.addAll([take('a', 0)]);
    await redis.client.config('SET', 'maxmemory', '1');
    try {
      await expect(counters.addAll([take('a', 2), take('b', 2)])).rejects.toThrow(RedisReplyError);
      await expect(counters.addAll([take('a', 2), take('b', 2)], { deduplicate: false })).rejects.toThrow(
        RedisReplyError,
      );
      expect(await values('a', 'b')).toEqual(['5', '5']);
    } finally {
      await redis.client.config('SET', 'maxmemory', '0');
    }
  });

  it('[CT-9] is refused inside a transaction by default, and runs with propagation outside', async () => {
    const transactions = apps[0]!.get(TransactionService);
    await expect(transactions.run(['x'], () => counters.addAll([take('a', 0)]))).rejects.toThrow(
      IllegalTransactionStateError,
    );
    const outside = { propagation: 'outside' as const };
    // The work of a transaction may run again on a busy machine.
    let runs = 0;
    await transactions.run(['x'], () => {
      runs++;
      return counters.addAll([{ key: 'a', amount: 1 }], outside);
    });
    expect(await redis.client.get('a')).toBe(String(runs));
  });

  it.each<[string, unknown, string]>([
    ['nothing', undefined, 'adds'],
    ['no list', { key: 'a', amount: 1 }, 'adds'],
    ['an empty list', [], 'adds'],
    ['513 counters', Array.from({ length: 513 }, (_, i) => ({ key: `n${i}`, amount: 1 })), 'adds'],
    ['a hole', [undefined], 'adds[0]'],
    ['no key', [{ amount: 1 }], 'adds[0].key'],
    ['no amount', [{ key: 'a' }], 'adds[0].amount'],
    [
      'a fraction',
      [
        { key: 'a', amount: 1 },
        { key: 'b', amount: 0.5 },
      ],
      'adds[1].amount',
    ],
    [
      'a key twice',
      [
        { key: 'a', amount: 1 },
        { key: 'a', amount: 1 },
      ],
      'adds[1].key',
    ],
    ['bounds crossed', [{ key: 'a', amount: 1, min: 2, max: 1 }], 'adds[0].min'],
    ['sliding without a time', [{ key: 'a', amount: 1, ttl: 'sliding' }], 'adds[0].ttlMs'],
    ['an unknown option', [{ key: 'a', amount: 1, limit: 1 }], 'adds[0].limit'],
  ])('[CT-9] refuses %s before any command', async (_, adds, argument) => {
    const counts = await countCommands(redis.client, async () => {
      const adding = counters.addAll(adds as never);
      await expect(adding).rejects.toThrow(InvalidArgumentError);
      await expect(adding).rejects.toMatchObject({ argument });
    });
    expect(counts).toEqual({});
  });
});

describe('CounterService.addAll on a Cluster', () => {
  const boot = useApp();
  let cluster: TestCluster;
  let app: TestingModule;

  beforeAll(async () => {
    cluster = await startCluster({ masters: 2, replicasPerMaster: 0 });
    const nodes = cluster.nodes.map(({ host, port }) => ({ host, port }));
    app = await boot({ connection: { nodes } });
  });

  afterAll(() => cluster?.stop());

  it('[CT-11] adds to counters of one slot, whatever braces their keys have, and refuses others before any I/O', async () => {
    const counters = app.get(CounterService);
    for (const tag of ['{a}', '{}', 'x{b}y']) {
      const keys = tag === '{}' ? ['{}z'] : [`${tag}:1`, `${tag}:2`];
      const { counters: lines, undo } = await counters.addAllUndoable(
        keys.map((key) => ({ key, amount: 2 })),
      );
      expect(lines.map(({ value }) => value)).toEqual(keys.map(() => 2));
      expect(await undo()).toBe(true);
      expect(await counters.get(keys[0]!)).toBe(0);
    }
    const before = await Promise.all(cluster.nodes.map(({ client }) => client.dbsize()));
    const crossing = counters.addAll([
      { key: '{a}:1', amount: 1 },
      { key: '{b}:1', amount: 1 },
    ]);
    await expect(crossing).rejects.toMatchObject({ code: 'CROSS_SLOT', keys: ['{a}:1', '{b}:1'] });
    expect(await Promise.all(cluster.nodes.map(({ client }) => client.dbsize()))).toEqual(before);
  });
});
