import type { TestingModule } from '@nestjs/testing';
import {
  InvalidArgumentError,
  NotReplicatedError,
  RedisReplyError,
  ShadowBuildEndedError,
  ShadowEmptyError,
  ShadowKeyService,
  IllegalTransactionStateError,
  TransactionService,
  type ReplaceOptions,
  type ReplaceResult,
  type ShadowSource,
  type ShadowWriter,
} from 'nestjs-atomic-redis';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { fieldsOf, startApp } from './app.js';

describe('ShadowKeyService', () => {
  const redis = useRedis();
  let app: TestingModule;
  let shadowKeys: ShadowKeyService;

  beforeAll(async () => {
    app = await startApp(redis.server.url);
    shadowKeys = app.get(ShadowKeyService);
  });

  afterAll(() => app.close());

  /** All keys but the markers by which operations are known again, which go by themselves. */
  const keys = async (): Promise<string[]> =>
    (await redis.client.keys('*')).filter((key) => !key.startsWith('atomic:operation:')).toSorted();

  const bytes = Buffer.from([0, 255, 254, 10, 13, 0, 128]);

  describe('the supported types', () => {
    const cases: [type: string, build: (writer: ShadowWriter) => unknown, expected: unknown][] = [
      ['hash', (w) => w.hset({ a: 1, b: 'x' }), { a: '1', b: 'x' }],
      ['hash', (w) => w.hset(new Map([['a', 1n]])), { a: '1' }],
      ['list', (w) => w.rpush('b', 'a', 'b', 2.5), ['b', 'a', 'b', '2.5']],
      ['set', (w) => w.sadd('a', 'b', 'a'), ['a', 'b']],
      ['zset', (w) => w.zadd({ b: 2, a: -1.5, c: Infinity }), ['a', '-1.5', 'b', '2', 'c', 'inf']],
      ['stream', (w) => w.xadd({ a: 1, b: 2 }, '5-1'), [['5-1', ['a', '1', 'b', '2']]]],
      ['string', (w) => w.set('whole'), 'whole'],
      ['string', (w) => w.set(''), ''],
      ['string', async (w) => [await w.append('in '), await w.append('two')], 'in two'],
    ];

    const valueOf = async (key: string): Promise<unknown> => {
      const { client } = redis;
      switch (await client.type(key)) {
        case 'hash':
          return client.hgetall(key);
        case 'list':
          return client.lrange(key, 0, -1);
        case 'set':
          return (await client.smembers(key)).toSorted();
        case 'zset':
          return client.zrange(key, '0', '-1', 'WITHSCORES');
        case 'stream':
          return client.xrange(key, '-', '+');
        default:
          return client.get(key);
      }
    };

    it.each(cases)('[SK-1] include a %s', async (type, build, expected) => {
      await redis.client.rpush('k', 'old');
      expect(await shadowKeys.replace('k', build)).toMatchObject({ swapped: true, shadowKeys: [] });
      expect(await redis.client.type('k')).toBe(type);
      expect(await valueOf('k')).toEqual(expected);
      expect(await keys()).toEqual(['k']);
    });

    it('[SK-1] count their written elements', async () => {
      const written = async (source: ShadowSource, type?: ReplaceOptions['type']) =>
        (await shadowKeys.replace('k', source, { type })).written;
      expect(await written({ a: 1, b: 2 })).toBe(2);
      expect(await written((w) => w.rpush('a', 'a', 'a'))).toBe(3);
      expect(await written((w) => w.xadd({ a: 1, b: 2 }))).toBe(1);
      expect(await written(['é', 'x'], 'string')).toBe(3);
    });

    it('[SK-1] preserve bytes', async () => {
      await shadowKeys.replace('hash', (w) => w.hset([[bytes, bytes]]));
      expect(await redis.client.hgetBuffer('hash', bytes)).toEqual(bytes);
      await shadowKeys.replace('string', (w) => w.append(bytes));
      expect(await redis.client.getBuffer('string')).toEqual(bytes);
      await shadowKeys.replace('list', [bytes, 'text', bytes], { type: 'list' });
      expect(await redis.client.lrangeBuffer('list', 0, -1)).toEqual([bytes, Buffer.from('text'), bytes]);
    });
  });

  describe('sources', () => {
    async function* slowly<T>(items: Iterable<T>): AsyncIterable<T> {
      for (const item of items) {
        await new Promise(setImmediate);
        yield item;
      }
    }

    const cases: [name: string, source: ShadowSource, type: ReplaceOptions['type'], expected: unknown][] = [
      ['an object', { a: 1, b: 'x' }, undefined, { a: '1', b: 'x' }],
      ['a Map', new Map([['a', 1]]), undefined, { a: '1' }],
      ['an async iterable of pairs', slowly([['a', 1]] as const), undefined, { a: '1' }],
      ['an array', ['b', 'a'], 'list', ['b', 'a']],
      ['a Set', new Set(['b']), 'list', ['b']],
      ['an async iterable of values', slowly(['b', 'a']), 'list', ['b', 'a']],
    ];

    it.each(cases)('[SK-1] accept %s', async (_, source, type, expected) => {
      await shadowKeys.replace('k', source, { type });
      const value = type === 'list' ? redis.client.lrange('k', 0, -1) : redis.client.hgetall('k');
      expect(await value).toEqual(expected);
    });

    it('[SK-1] accept an iterable of every other type', async () => {
      await shadowKeys.replace('set', slowly(['a']), { type: 'set' });
      await shadowKeys.replace('zset', { a: 2 }, { type: 'zset' });
      await shadowKeys.replace('stream', slowly<Record<string, number>>([{ a: 1 }, { b: 2 }]), {
        type: 'stream',
      });
      await shadowKeys.replace('string', slowly(['x', 'y']), { type: 'string' });
      expect(await redis.client.smembers('set')).toEqual(['a']);
      expect(await redis.client.zscore('zset', 'a')).toBe('2');
      expect((await redis.client.xrange('stream', '-', '+')).map(([, fields]) => fields)).toEqual([
        ['a', '1'],
        ['b', '2'],
      ]);
      expect(await redis.client.get('string')).toBe('xy');
    });

    it.each([999, 1_000, 1_001, 3_000, 3_500])(
      '[SK-1] are written with all of their %i elements, one by one or at once',
      async (n) => {
        const fields = fieldsOf('v', n);
        const expected = Object.fromEntries(fields);
        await shadowKeys.replace('a', fields);
        await shadowKeys.replace('b', (w) => w.hset(fields));
        await shadowKeys.replace('c', async (w) => {
          for (const [field, value] of fields) await w.hset({ [field]: value });
        });
        await shadowKeys.replace('list', (w) => w.rpush(...fields.map(([field]) => field)));
        for (const key of ['a', 'b', 'c']) expect(await redis.client.hgetall(key)).toEqual(expected);
        expect(await redis.client.lrange('list', 0, -1)).toEqual(fields.map(([field]) => field));
      },
    );

    it('[SK-1] are written completely even if their writes are not awaited', async () => {
      const fields = fieldsOf('v', 20_000);
      await shadowKeys.replace('k', (w) => {
        for (let from = 0; from < fields.length; from += 4_000) void w.hset(fields.slice(from, from + 4_000));
      });
      expect(await redis.client.hlen('k')).toBe(20_000);
    });

    it('[SK-1] are closed if they are iterables that are not read to their end', async () => {
      let closed = false;
      async function* source() {
        try {
          yield ['a', 1] as const;
          yield ['b', {} as string] as const;
          yield ['c', 3] as const;
        } finally {
          closed = true;
        }
      }
      await expect(shadowKeys.replace('k', source())).rejects.toThrow(InvalidArgumentError);
      expect(closed).toBe(true);
      expect(await keys()).toEqual([]);
    });
  });

  describe('the swap', () => {
    it('[SK-2] clears the time to live of the old value, or sets that of the new one', async () => {
      await redis.client.set('k', 'old', 'PX', 60_000);
      await shadowKeys.replace('k', { a: 1 });
      expect(await redis.client.pttl('k')).toBe(-1);
      await shadowKeys.replace('k', { a: 1 }, { ttlMs: 50_000 });
      expect(await redis.client.pttl('k')).toBeGreaterThan(45_000);
      expect(await redis.client.pttl('k')).toBeLessThanOrEqual(50_000);
    });

    it('[SK-2] refuses an empty value unless configured to delete then', async () => {
      await redis.client.set('k', 'old');
      for (const source of [
        {},
        [],
        () => undefined,
        (w: ShadowWriter) => w.rpush(),
      ] satisfies ShadowSource[]) {
        await expect(shadowKeys.replace('k', source)).rejects.toMatchObject({
          constructor: ShadowEmptyError,
          key: 'k',
          outcome: 'not-applied',
        });
      }
      expect(await redis.client.get('k')).toBe('old');
      expect(await shadowKeys.replace('k', {}, { onEmpty: 'delete' })).toEqual({
        swapped: true,
        written: 0,
        shadowKeys: [],
      });
      expect(await keys()).toEqual([]);
    });

    it('[SK-2] by copy leaves the shadow beside the live key, with a time to live of its own', async () => {
      await redis.client.set('k', 'old', 'PX', 60_000);
      const { shadowKeys: kept } = await shadowKeys.replace(
        'k',
        { a: 1 },
        { mode: 'copy', shadowTtlMs: 20_000 },
      );
      expect(kept).toHaveLength(1);
      expect(await redis.client.hgetall(kept[0]!)).toEqual({ a: '1' });
      expect(await redis.client.pttl(kept[0]!)).toBeGreaterThan(15_000);
      expect(await redis.client.hgetall('k')).toEqual({ a: '1' });
      expect(await redis.client.pttl('k')).toBe(-1);
      expect(await keys()).toEqual([...kept, 'k'].toSorted());
      await shadowKeys.replace('k', { a: 2 }, { mode: 'copy', ttlMs: 30_000 });
      expect(await redis.client.hgetall('k')).toEqual({ a: '2' });
      expect(await redis.client.pttl('k')).toBeLessThanOrEqual(30_000);
    });

    it('[SK-2] waits for replicas on request, and stays done when they do not acknowledge', async () => {
      const durability = { replicas: 1, timeoutMs: 50 };
      const options = { durability, mode: 'copy', keepPrevious: true } as const;
      await redis.client.set('k', 'old');
      const error = await shadowKeys.replace('k', { a: 1 }, options).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({
        constructor: NotReplicatedError,
        result: { swapped: true, written: 1, shadowKeys: [expect.any(String)] },
      });
      expect(await redis.client.hgetall('k')).toEqual({ a: '1' });
      const { shadowKeys: kept } = (error as NotReplicatedError).result as ReplaceResult;
      expect(await redis.client.hgetall(kept[0]!)).toEqual({ a: '1' });
      await expect(shadowKeys.rollback('k', { durability })).rejects.toMatchObject({ result: true });
      expect(await redis.client.get('k')).toBe('old');
    });

    it('[SK-6] takes one round trip beside the chunks, and frees by UNLINK', async () => {
      await shadowKeys.replace('k', { a: 1 });
      const counts = await countCommands(redis.client, () => shadowKeys.replace('k', fieldsOf('v', 2_500)));
      expect(counts).toMatchObject({ multi: 3, hset: 3, evalsha: 1, unlink: 2, rename: 1 });
      expect(counts).not.toHaveProperty('del');
    });

    it('[SK-1] reports its progress', async () => {
      const seen: number[] = [];
      let elapsed = 0;
      await shadowKeys.replace('k', fieldsOf('v', 2_500), {
        onProgress: ({ written, elapsedMs }) => {
          seen.push(written);
          expect(elapsedMs).toBeGreaterThanOrEqual(elapsed);
          elapsed = elapsedMs;
        },
      });
      expect(seen).toEqual([1_000, 2_000, 2_500]);
    });
  });

  describe('versions', () => {
    const at = (version: number | bigint, options: ReplaceOptions = {}) =>
      shadowKeys.replace('k', { v: String(version) }, { version, ...options });

    it('[SK-3] let no older one win, whatever the number of digits', async () => {
      for (const [version, swapped] of [
        [9, true],
        [10, true],
        [9, false],
        [10, true],
        [2 ** 53 - 1, true],
        [2n ** 53n + 1n, true],
        [2n ** 53n, false],
        [2n ** 63n - 1n, true],
        [2n ** 63n - 2n, false],
        [0, false],
      ] as const) {
        expect(await at(version)).toMatchObject({ swapped });
      }
      expect(await redis.client.hget('k', 'v')).toBe(String(2n ** 63n - 1n));
      expect(await keys()).toEqual(['atomic:shadow-version:{k}:k', 'k']);
    });

    it('[SK-3] are compared even if the older one is built later: of two simultaneous builds the newer one stays', async () => {
      let release = (): void => undefined;
      const held = new Promise<void>((resolve) => (release = resolve));
      const older = shadowKeys.replace(
        'k',
        async (w) => {
          await w.hset({ v: '1' });
          await held;
        },
        { version: 1 },
      );
      expect(await at(2)).toMatchObject({ swapped: true });
      release();
      expect(await older).toMatchObject({ swapped: false });
      expect(await redis.client.hgetall('k')).toEqual({ v: '2' });
      expect(await keys()).toEqual(['atomic:shadow-version:{k}:k', 'k']);
    });

    it('[SK-3] are kept as long as the live key, and over swaps without one', async () => {
      const version = 'atomic:shadow-version:{k}:k';
      const ttl = () => redis.client.pttl(version);
      await at(5, { ttlMs: 50_000 });
      expect(await redis.client.pexpiretime(version)).toBe(await redis.client.pexpiretime('k'));
      await shadowKeys.replace('k', { v: 'unversioned' });
      // A week: nothing tells when a key without a time to live is deleted.
      expect(await ttl()).toBeGreaterThan(6 * 86_400_000);
      expect(await ttl()).toBeLessThanOrEqual(7 * 86_400_000);
      await shadowKeys.replace('k', { v: 'unversioned' }, { ttlMs: 40_000 });
      expect(await ttl()).toBeGreaterThan(30_000);
      expect(await at(4)).toMatchObject({ swapped: false });
      await shadowKeys.replace('k', {}, { version: 6, onEmpty: 'delete' });
      expect(await at(5)).toMatchObject({ swapped: false });
      expect(await redis.client.exists('k')).toBe(0);
      expect(await ttl()).toBeGreaterThan(0);
    });

    it('[SK-3] are ignored for a live key that other clients deleted', async () => {
      await at(5);
      await redis.client.del('k');
      expect(await at(4)).toMatchObject({ swapped: true });
      expect(await at(3)).toMatchObject({ swapped: false });
      await redis.client.del('k');
      await shadowKeys.replace('k', { v: 'unversioned' });
      expect(await keys()).toEqual(['k']);
    });
  });

  describe('rollback', () => {
    it('[SK-4] restores the kept value once, with its remaining time to live', async () => {
      await redis.client.set('k', 'old', 'PX', 60_000);
      await shadowKeys.replace('k', { a: 1 }, { keepPrevious: true, ttlMs: 5_000, version: 1 });
      expect(await shadowKeys.rollback('k')).toBe(true);
      expect(await redis.client.get('k')).toBe('old');
      const ttl = await redis.client.pttl('k');
      expect(ttl).toBeGreaterThan(30_000);
      expect(await redis.client.pttl('atomic:shadow-version:{k}:k')).toBeGreaterThan(30_000);
      expect(await shadowKeys.rollback('k')).toBe(false);
      expect(await redis.client.get('k')).toBe('old');
    });

    it('[SK-4] keeps the value before the live one, and no other', async () => {
      for (const v of [1, 2, 3]) await shadowKeys.replace('k', { v }, { keepPrevious: true });
      expect(await shadowKeys.rollback('k')).toBe(true);
      expect(await redis.client.hgetall('k')).toEqual({ v: '2' });
      await shadowKeys.replace('k', { v: 4 }, { keepPrevious: true });
      await shadowKeys.replace('k', { v: 5 });
      expect(await shadowKeys.rollback('k')).toBe(false);
      expect(await redis.client.hgetall('k')).toEqual({ v: '5' });
      expect(await keys()).toEqual(['k']);
    });

    it('[SK-4] restores a value that an empty one deleted', async () => {
      await redis.client.set('k', 'old');
      await shadowKeys.replace('k', {}, { onEmpty: 'delete', keepPrevious: true });
      expect(await redis.client.exists('k')).toBe(0);
      expect(await shadowKeys.rollback('k')).toBe(true);
      expect(await redis.client.get('k')).toBe('old');
    });

    it('[SK-4] restores several keys together, or none of them', async () => {
      await redis.client.mset('a', 'old', 'b', 'old');
      await shadowKeys.replaceAll({ a: { v: 1 }, b: { v: 1 } }, { keepPrevious: true });
      await shadowKeys.replace('b', { v: 2 });
      expect(await shadowKeys.rollback(['a', 'b'])).toBe(false);
      expect(await redis.client.type('a')).toBe('hash');
      await shadowKeys.replaceAll({ a: { v: 3 }, b: { v: 3 } }, { keepPrevious: true });
      expect(await shadowKeys.rollback(['a', 'b', 'a'])).toBe(true);
      expect([await redis.client.hget('a', 'v'), await redis.client.hget('b', 'v')]).toEqual(['1', '2']);
    });
  });

  describe('replaceAll', () => {
    it('[SK-5] swaps all keys, of any types', async () => {
      await redis.client.mset('a', 'old', 'b', 'old', 'c', 'old');
      const result = await shadowKeys.replaceAll(
        { a: { x: 1 }, b: (w: ShadowWriter) => w.rpush('1', '2'), c: {} },
        { onEmpty: 'delete', ttlMs: 50_000 },
      );
      expect(result).toEqual({ swapped: true, written: 3, shadowKeys: [] });
      expect(await redis.client.hgetall('a')).toEqual({ x: '1' });
      expect(await redis.client.lrange('b', 0, -1)).toEqual(['1', '2']);
      expect(await keys()).toEqual(['a', 'b']);
      expect(await redis.client.pttl('b')).toBeGreaterThan(40_000);
    });

    it('[SK-5] swaps none when one of them fails, is empty, or has a newer version', async () => {
      await redis.client.mset('a', 'old', 'b', 'old');
      const boom = new Error('boom');
      const failing = shadowKeys.replaceAll({ a: { x: 1 }, b: () => Promise.reject(boom) });
      await expect(failing).rejects.toBe(boom);
      await expect(shadowKeys.replaceAll({ a: { x: 1 }, b: {} })).rejects.toThrow(ShadowEmptyError);
      await shadowKeys.replace('b', { x: 'newer' }, { version: 9 });
      expect(await shadowKeys.replaceAll({ a: { x: 1 }, b: { x: 1 } }, { version: 8 })).toMatchObject({
        swapped: false,
        shadowKeys: [],
      });
      expect(await redis.client.get('a')).toBe('old');
      expect(await redis.client.hget('b', 'x')).toBe('newer');
      expect(await keys()).toEqual(['a', 'atomic:shadow-version:{b}:b', 'b']);
    });

    it('[SK-5] swaps up to the maximum number of keys', async () => {
      const sources = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`k${i}`, { i }]));
      expect(await shadowKeys.replaceAll(sources, { keepPrevious: true, version: 1 })).toMatchObject({
        written: 500,
      });
      expect(await redis.client.hget('k499', 'i')).toBe('499');
      expect(await redis.client.dbsize()).toBe(1_001);
    });
  });

  describe('a build that fails', () => {
    const boom = new Error('boom');

    it.each<[string, ShadowSource, ReplaceOptions]>([
      [
        'its function',
        (w: ShadowWriter) => w.hset(fieldsOf('v', 1_500)).then(() => Promise.reject(boom)),
        {},
      ],
      [
        'its function, at once',
        () => {
          throw boom;
        },
        {},
      ],
      [
        'its iterable',
        (function* () {
          yield* fieldsOf('v', 1_500);
          throw boom;
        })(),
        {},
      ],
      [
        'onProgress',
        fieldsOf('v', 5_000),
        {
          onProgress: () => {
            throw boom;
          },
        },
      ],
    ])('[SK-7] passes on the error of %s, and removes the shadow', async (_, source, options) => {
      await redis.client.set('k', 'old');
      await expect(shadowKeys.replace('k', source, options)).rejects.toBe(boom);
      expect(await keys()).toEqual(['k']);
      expect(await redis.client.get('k')).toBe('old');
    });

    it('[SK-7] ends at its signal even if the source hangs, and notifies the source', async () => {
      await redis.client.set('k', 'old');
      const stop = new AbortController();
      let writer: ShadowWriter | undefined;
      const replacing = shadowKeys.replace(
        'k',
        async (w) => {
          writer = w;
          await w.hset(fieldsOf('v', 1_000));
          await new Promise(() => undefined);
        },
        { signal: stop.signal, onProgress: () => stop.abort(boom) },
      );
      await expect(replacing).rejects.toBe(boom);
      expect(writer?.signal.reason).toBe(boom);
      await expect(writer?.hset({ late: 1 })).rejects.toBe(boom);
      expect(await keys()).toEqual(['k']);
      await expect(shadowKeys.replace('k', { a: 1 }, { signal: stop.signal })).rejects.toBe(boom);
    });

    it('[SK-7] cannot be saved by catching the error of a write', async () => {
      const source = async (w: ShadowWriter): Promise<void> => {
        await w.hset({ a: 1 });
        await w.hset({ b: undefined as unknown as string }).catch(() => undefined);
        await w.hset({ c: 3 }).catch(() => undefined);
      };
      await expect(shadowKeys.replace('k', source)).rejects.toMatchObject({ argument: 'writer.hset.b' });
      expect(await keys()).toEqual([]);
    });

    it('[SK-7] reports Redis’s refusal', async () => {
      const source = async (w: ShadowWriter): Promise<void> => {
        await w.xadd({ a: 1 }, '5-1');
        await w.xadd({ a: 1 }, '4-1');
      };
      await expect(shadowKeys.replace('k', source)).rejects.toMatchObject({
        constructor: RedisReplyError,
        outcome: 'not-applied',
      });
      expect(await keys()).toEqual([]);
    });

    it('[SK-7] refuses a write that comes after its end', async () => {
      let writer: ShadowWriter | undefined;
      await shadowKeys.replace('k', (w) => {
        writer = w;
        return w.hset({ a: 1 });
      });
      await expect(writer?.hset({ b: 2 })).rejects.toThrow(ShadowBuildEndedError);
      expect(await redis.client.hgetall('k')).toEqual({ a: '1' });
    });
  });

  describe('given wrong arguments', () => {
    /** Returns the message of the refusal. */
    const refusalOf = async (refused: Promise<unknown>): Promise<unknown> => {
      const error = await refused.then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      return error instanceof InvalidArgumentError ? error.argument : error;
    };

    it.each<[string, unknown, unknown, unknown]>([
      ['key', '', { a: 1 }, {}],
      ['source', 'k', 'text', {}],
      ['source', 'k', bytes, {}],
      ['source', 'k', Promise.resolve({}), {}],
      ['source', 'k', null, {}],
      ['options.type', 'k', () => undefined, { type: 'list' }],
      ['options.type', 'k', { a: 1 }, { type: 'list' }],
      ['options.type', 'k', [], { type: 'json' }],
      ['options.ttlMs', 'k', {}, { ttlMs: 0 }],
      ['options.version', 'k', {}, { version: -1 }],
      ['options.version', 'k', {}, { version: 1.5 }],
      ['options.version', 'k', {}, { version: 2n ** 63n }],
      ['options.version', 'k', {}, { version: '1' }],
      ['options.shadowTtlMs', 'k', {}, { shadowTtlMs: 999 }],
      ['options.onEmpty', 'k', {}, { onEmpty: 'keep' }],
      ['options.mode', 'k', {}, { mode: 'move' }],
      ['options.signal', 'k', {}, { signal: {} }],
      ['options.durability.replicas', 'k', {}, { durability: { replicas: 0 } }],
      ['options.chunk', 'k', {}, { chunk: 1 }],
    ])('[SK-8] refuses a wrong %s before any command', async (argument, key, source, options) => {
      let refusal: unknown;
      const counts = await countCommands(redis.client, async () => {
        refusal = await refusalOf(
          shadowKeys.replace(key as string, source as ShadowSource, options as ReplaceOptions),
        );
      });
      expect(refusal).toBe(argument);
      expect(counts).toEqual({});
    });

    it('[SK-8] refuses wrong keys among several', async () => {
      expect(await refusalOf(shadowKeys.replaceAll({}))).toBe('sources');
      expect(await refusalOf(shadowKeys.replaceAll({ a: 7 as never }))).toBe('sources["a"]');
      expect(await refusalOf(shadowKeys.replaceAll({ '': {} }))).toBe('sources: a key');
      expect(await refusalOf(shadowKeys.rollback([]))).toBe('keys');
      expect(await refusalOf(shadowKeys.rollback(['a', '']))).toBe('keys[1]');
      expect(await refusalOf(shadowKeys.rollback(7 as never))).toBe('keys');
      expect(await refusalOf(shadowKeys.rollback('a', { ttlMs: 1 } as never))).toBe('options.ttlMs');
    });

    it.each<[string, (writer: ShadowWriter) => unknown]>([
      ['writer.hset.a', (w) => w.hset({ a: null as never })],
      ['writer.hset.a', (w) => w.hset({ a: NaN })],
      ['writer.hset', (w) => w.hset([['a'] as never])],
      ['writer.hset', (w) => w.hset('ab' as never)],
      ['writer.rpush', (w) => w.rpush(undefined as never)],
      ['writer.rpush', (w) => w.rpush({} as never)],
      ['writer.zadd.a', (w) => w.zadd({ a: NaN })],
      ['writer.zadd.a', (w) => w.zadd({ a: '1' as never })],
      ['writer.xadd', (w) => w.xadd({})],
      ['writer.set', (w) => w.set(true as never)],
      // Half of a surrogate pair would arrive as another character: two fields would be one.
      ['writer.hset', (w) => w.hset({ '\ud800': 1 })],
      ['writer.hset.a', (w) => w.hset({ a: 'x\udfff' })],
      ['writer.sadd', (w) => w.sadd('\ud800', '\ud801')],
      ['writer.zadd', (w) => w.zadd({ '\ud800': 1 })],
      ['writer.append', (w) => w.append('\ud83d')],
      ['writer', async (w) => [await w.hset({ a: 1 }), await w.rpush('a')]],
    ])('[SK-8] refuses an unwritable value: %s', async (argument, build) => {
      await redis.client.set('k', 'old');
      expect(await refusalOf(shadowKeys.replace('k', build))).toBe(argument);
      expect(await keys()).toEqual(['k']);
    });

    it('[SK-8] refuses to run inside a transaction, whose attempts would each repeat it', async () => {
      const transactions = app.get(TransactionService);
      const source = jest.fn((w: ShadowWriter) => w.hset({ a: 1 }));
      const inside = (options: ReplaceOptions) =>
        transactions.run(['t'], async () => void (await shadowKeys.replace('k', source, options)));
      await expect(inside({})).rejects.toThrow(IllegalTransactionStateError);
      expect(source).not.toHaveBeenCalled();
      await inside({ propagation: 'outside' });
      expect(await redis.client.hgetall('k')).toEqual({ a: '1' });
    });
  });
});
