import {
  CounterOverflowError,
  CounterService,
  UnsafeIntegerError,
  InvalidArgumentError,
  NotAnIntegerError,
} from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';

const times = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => make(index));

describe('CounterService', () => {
  const boot = useApp();
  const redis = useRedis();
  /** Each stands for a process: its own connection and producer. */
  let services: CounterService[];
  let counters: CounterService;

  beforeAll(async () => {
    const apps = await Promise.all(times(4, () => boot({ connection: redis.server.url })));
    services = apps.map((app) => app.get(CounterService));
    counters = services[0]!;
  });

  describe('with bounds', () => {
    it('[CT-1] accepts exactly 100 of 1000 concurrent adds with a maximum of 100, and no sample exceeds it', async () => {
      const done = new AbortController();
      const samples: number[] = [];
      const sampling = (async () => {
        while (!done.signal.aborted) samples.push(Number(await redis.client.get('n')));
      })();
      const results = await Promise.all(times(1000, (i) => services[i % 4]!.add('n', 1, { max: 100 })));
      done.abort();
      await sampling;
      expect(results.filter(({ applied }) => applied === 1)).toHaveLength(100);
      expect(results.filter(({ limited }) => limited)).toHaveLength(900);
      expect(await redis.client.get('n')).toBe('100');
      expect(Math.max(...samples)).toBeLessThanOrEqual(100);
    });

    it('[CT-1] never goes below a minimum', async () => {
      await redis.client.set('stock', 10);
      const results = await Promise.all(times(200, (i) => services[i % 4]!.add('stock', -3, { min: 0 })));
      expect(results.filter(({ applied }) => applied === -3)).toHaveLength(3);
      expect(results.filter(({ limited }) => limited)).toHaveLength(197);
      expect(await redis.client.get('stock')).toBe('1');
    });

    it('[CT-1] refuses an addition that would exceed a bound by one', async () => {
      await redis.client.set('n', 0);
      expect(await counters.add('n', -1, { min: 0 })).toEqual({ value: 0, applied: 0, limited: true });
      expect(await counters.add('n', 1, { max: 0 })).toEqual({ value: 0, applied: 0, limited: true });
      expect(await redis.client.get('n')).toBe('0');
    });

    it('[CT-1] applies the part that fits when onLimit is clamp', async () => {
      await redis.client.set('n', 7);
      expect(await counters.add('n', 5, { max: 10, onLimit: 'clamp' })).toEqual({
        value: 10,
        applied: 3,
        limited: true,
      });
      expect(await counters.add('n', 5, { max: 10, onLimit: 'clamp' })).toEqual({
        value: 10,
        applied: 0,
        limited: true,
      });
      expect(await counters.add('n', -15, { min: 0, onLimit: 'clamp' })).toEqual({
        value: 0,
        applied: -10,
        limited: true,
      });
    });

    it.each(['skip', 'clamp'] as const)(
      '[CT-1] never pulls back a value that is beyond a bound already (%s)',
      async (onLimit) => {
        await redis.client.set('n', 50);
        expect(await counters.add('n', 1, { max: 10, onLimit })).toEqual({
          value: 50,
          applied: 0,
          limited: true,
        });
        expect(await counters.add('n', -1, { max: 10, onLimit })).toEqual({
          value: 49,
          applied: -1,
          limited: false,
        });
        expect(await counters.add('n', -60, { min: 60, onLimit })).toEqual({
          value: 49,
          applied: 0,
          limited: true,
        });
        expect(await counters.add('n', 5, { min: 60, onLimit })).toEqual({
          value: 54,
          applied: 5,
          limited: false,
        });
      },
    );

    it('[CT-1] applies the operations of one batch in the order of their calls', async () => {
      const results = await Promise.all([
        counters.add('n', 4, { max: 5 }),
        counters.add('n', 4, { max: 5 }),
        counters.reset('n'),
        counters.add('n', -2),
        counters.add('n', 4, { max: 5 }),
      ]);
      expect(results).toEqual([
        { value: 4, applied: 4, limited: false },
        { value: 4, applied: 0, limited: true },
        4,
        { value: -2, applied: -2, limited: false },
        { value: 2, applied: 4, limited: false },
      ]);
    });
  });

  describe('reading and resetting', () => {
    it('reads a counter, and returns null for a missing one', async () => {
      expect(await counters.get('n')).toBeNull();
      await counters.add('n', -3);
      expect(await counters.get('n')).toBe(-3);
      expect(await counters.getBigInt('n')).toBe(-3n);
    });

    it('[CT-5] throws instead of rounding: values beyond 2^53 - 1 need a bigint', async () => {
      await redis.client.set('n', '9007199254740992');
      await expect(counters.get('n')).rejects.toThrow(UnsafeIntegerError);
      await expect(counters.reset('n')).rejects.toThrow(UnsafeIntegerError);
      await expect(counters.add('n', 1)).rejects.toThrow(UnsafeIntegerError);
      expect(await redis.client.get('n')).toBe('9007199254740992');
      expect(await counters.getBigInt('n')).toBe(2n ** 53n);
      expect(await counters.add('n', 1n)).toEqual({ value: 2n ** 53n + 1n, applied: 1n, limited: false });
      expect(await counters.resetBigInt('n')).toBe(2n ** 53n + 1n);
      expect(await counters.resetBigInt('n')).toBeNull();
    });

    it('[CT-5] refuses an overflow without affecting other operations of the batch', async () => {
      await redis.client.set('n', String(2n ** 63n - 2n));
      const [one, two, three] = await Promise.allSettled([
        counters.add('n', 1n),
        counters.add('n', 1n),
        counters.add('n', -1n),
      ]);
      expect(one).toMatchObject({ value: { value: 2n ** 63n - 1n } });
      expect(two).toMatchObject({ reason: expect.any(CounterOverflowError) });
      expect(two).toMatchObject({ reason: { key: 'n', requested: 1n, outcome: 'not-applied' } });
      expect(three).toMatchObject({ value: { value: 2n ** 63n - 2n } });
    });
  });

  describe('time to live', () => {
    const ttl = (): Promise<number> => redis.client.pttl('n');

    it('[CT-6] is set on creation only', async () => {
      await counters.add('n', 1, { ttlMs: 50_000 });
      expect(await ttl()).toBeGreaterThan(40_000);
      expect(await ttl()).toBeLessThanOrEqual(50_000);
      await counters.add('n', 1, { ttlMs: 900_000 });
      expect(await ttl()).toBeLessThanOrEqual(50_000);
      await counters.add('n', 1);
      expect(await ttl()).toBeGreaterThan(0);
    });

    it('[CT-6] is added to a counter without one only if sliding', async () => {
      await counters.add('n', 1);
      await counters.add('n', 1, { ttlMs: 50_000 });
      expect(await ttl()).toBe(-1);
      await counters.add('n', 1, { ttlMs: 50_000, ttl: 'sliding' });
      expect(await ttl()).toBeGreaterThan(40_000);
      await counters.add('n', 1, { ttlMs: 500_000, ttl: 'sliding' });
      expect(await ttl()).toBeGreaterThan(400_000);
    });

    it('[CT-6] starts again with its full length after a deletion', async () => {
      await counters.add('n', 5, { ttlMs: 500_000 });
      await redis.client.del('n');
      expect(await counters.add('n', 1, { ttlMs: 50_000 })).toMatchObject({ value: 1 });
      expect(await ttl()).toBeLessThanOrEqual(50_000);
      const [, added] = await Promise.all([counters.reset('n'), counters.add('n', 1)]);
      expect(added.value).toBe(1);
      expect(await ttl()).toBe(-1);
    });

    it('[CT-6] is not touched, and no counter created, by limited adds and adds of 0', async () => {
      expect(await counters.add('n', 1, { max: 0, ttlMs: 1_000 })).toEqual({
        value: 0,
        applied: 0,
        limited: true,
      });
      await counters.add('n', 1, { max: 0, onLimit: 'clamp', ttlMs: 1_000 });
      await counters.add('n', 0, { ttlMs: 1_000 });
      expect(await redis.client.exists('n')).toBe(0);

      await redis.client.set('n', 5);
      await counters.add('n', 1, { max: 5, ttlMs: 1_000, ttl: 'sliding' });
      await counters.add('n', 0, { ttlMs: 1_000, ttl: 'sliding' });
      expect(await ttl()).toBe(-1);
    });

    it('[CT-6] exists on every key that the library adds', async () => {
      const { undo } = await counters.addUndoable('n', 1);
      await undo();
      const keys = await redis.client.keys('atomic:*');
      expect(keys).toHaveLength(2);
      for (const key of keys) expect(await redis.client.pttl(key)).toBeGreaterThan(0);
    });
  });

  describe('a key that holds another type', () => {
    it.each([
      'abc',
      '1.5',
      '007',
      '',
      ' 5',
      '-0',
      '+1',
      '1e3',
      '0x10',
      '9223372036854775808',
      '-9223372036854775809',
      'nan',
    ])('[CT-7] keeps its string %j', async (garbage) => {
      await redis.client.set('n', garbage, 'PX', 100_000);
      for (const call of [
        counters.add('n', 1),
        counters.add('n', 1n),
        counters.reset('n'),
        counters.get('n'),
      ]) {
        await expect(call).rejects.toThrow(NotAnIntegerError);
        await expect(call).rejects.toMatchObject({ key: 'n', found: 'other-string', outcome: 'not-applied' });
      }
      // By itself, too, and not only beside a reset.
      await expect(counters.add('n', 1)).rejects.toThrow(NotAnIntegerError);
      expect(await redis.client.get('n')).toBe(garbage);
      expect(await redis.client.pttl('n')).toBeGreaterThan(0);
    });

    it('[CT-7] keeps its list', async () => {
      await redis.client.rpush('n', 'a');
      for (const call of [counters.add('n', 1), counters.reset('n'), counters.get('n')]) {
        await expect(call).rejects.toThrow(NotAnIntegerError);
        await expect(call).rejects.toMatchObject({ found: 'other-type' });
      }
      expect(await redis.client.lrange('n', 0, -1)).toEqual(['a']);
    });
  });

  describe('bad input', () => {
    const any = (value: unknown): never => value as never;

    it.each([
      undefined,
      null,
      {},
      Number.NaN,
      1.5,
      '5',
      '',
      Infinity,
      -Infinity,
      2 ** 53,
      2n ** 63n,
      -(2n ** 63n) - 1n,
      true,
      [1],
    ])('[CT-9] refuses %p as an amount or a bound before any command', async (value) => {
      const counts = await countCommands(redis.client, async () => {
        await expect(counters.add('n', any(value))).rejects.toThrow(InvalidArgumentError);
        if (value === undefined) return;
        await expect(counters.add('n', 1, { max: any(value) })).rejects.toThrow(InvalidArgumentError);
        await expect(counters.add('n', 1, { min: any(value) })).rejects.toThrow(InvalidArgumentError);
      });
      expect(counts).toEqual({});
    });

    it.each([undefined, null, '', 5, {}, 'n\ud800'])(
      '[CT-9] refuses %p as a key before any command',
      async (key) => {
        const counts = await countCommands(redis.client, async () => {
          for (const call of [
            counters.add(any(key), 1),
            counters.addUndoable(any(key), 1),
            counters.get(any(key)),
            counters.getBigInt(any(key)),
            counters.reset(any(key)),
            counters.resetBigInt(any(key)),
            counters.run(any(key), 1, () => 1),
            counters.addAll([{ key: any(key), amount: 1 }]),
          ]) {
            await expect(call).rejects.toThrow(InvalidArgumentError);
          }
        });
        expect(counts).toEqual({});
      },
    );

    it.each([
      [{ min: 2, max: 1 }, 'options.min'],
      [{ min: 2n, max: 1 }, 'options.min'],
      [{ ttl: 'sliding' }, 'options.ttlMs'],
      [{ ttl: 'always', ttlMs: 1 }, 'options.ttl'],
      [{ ttlMs: 0 }, 'options.ttlMs'],
      [{ ttlMs: 1.5 }, 'options.ttlMs'],
      [{ timeoutMs: 0 }, 'options.timeoutMs'],
      [{ onLimit: 'throw' }, 'options.onLimit'],
      [{ maximum: 5 }, 'options.maximum'],
      [{ onError: 'undo' }, 'options.onError'],
      [Object.create({ ttlMs: -5 }), 'options.ttlMs'],
      [null, 'options'],
    ])('[CT-9] refuses the options %j before any command, naming the option', async (options, argument) => {
      const counts = await countCommands(redis.client, async () => {
        const adding = counters.add('n', 1, any(options));
        await expect(adding).rejects.toThrow(InvalidArgumentError);
        await expect(adding).rejects.toMatchObject({ argument });
      });
      expect(counts).toEqual({});
    });
  });

  describe('scripts', () => {
    it('[CT-10] run normally when SCRIPT FLUSH comes between any two calls', async () => {
      const { undo } = await counters.addUndoable('n', 5);
      await redis.client.script('FLUSH');
      expect(await counters.add('n', 1)).toMatchObject({ value: 6 });
      await redis.client.script('FLUSH');
      expect(await counters.get('n')).toBe(6);
      await redis.client.script('FLUSH');
      expect(await undo()).toBe(true);
      await redis.client.script('FLUSH');
      expect(await counters.reset('n')).toBe(1);
    });

    it('[CT-10] take one round trip', async () => {
      await counters.add('n', 1);
      const adding = await countCommands(redis.client, () => counters.add('n', 1));
      expect(adding).toMatchObject({ evalsha: 1 });
      expect(adding).not.toHaveProperty('eval');
      expect(adding).not.toHaveProperty('script');
      expect(await countCommands(redis.client, () => counters.get('n'))).toMatchObject({ evalsha_ro: 1 });
    });

    it('[CT-10] serve concurrent adds in shared calls, of at most 512 operations', async () => {
      const together = await countCommands(redis.client, () =>
        Promise.all(times(512, () => counters.add('n', 1))),
      );
      expect(together).toMatchObject({ evalsha: 1 });
      const more = await countCommands(redis.client, () =>
        Promise.all(times(1025, () => counters.add('n', 1))),
      );
      expect(more).toMatchObject({ evalsha: 3 });
      expect(await counters.get('n')).toBe(1537);
    });

    it('[CT-10] send adds made while a call is in flight together as the next call', async () => {
      const counts = await countCommands(redis.client, async () => {
        const first = counters.add('n', 1);
        await new Promise(setImmediate);
        await Promise.all([first, ...times(50, () => counters.add('n', 1))]);
      });
      expect(counts).toMatchObject({ evalsha: 2 });
      expect(await counters.get('n')).toBe(51);
    });
  });
});
