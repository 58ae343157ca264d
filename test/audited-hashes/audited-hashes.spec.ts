import {
  AuditedHashService,
  InvalidArgumentError,
  NotAnAuditLogError,
  InvalidUtf8Error,
  WrongTypeError,
  type AuditEntry,
  type AuditHistory,
  type AuditOptions,
} from 'nestjs-atomic-redis';
import { SERVERS, useTarget } from '../support/target.js';

const BYTES = Buffer.from([0, 0xff, 0x2c, 0x3a, 0x31, 0x2d, 0x2c, 10, 13]);
const KEY = 'product:{tea}';
const LOG = 'product:{tea}:log';

describe.each(SERVERS)('an audited hash on %s', (kind) => {
  const redis = useTarget(kind);
  let hashes: AuditedHashService;

  beforeAll(() => {
    hashes = redis.app.get(AuditedHashService);
  });

  const told = (entries: readonly AuditEntry[]): unknown[] =>
    entries.map(({ field, old, new: next, actor }) => [field, old, next, actor]);

  describe.each(['stream', 'list'] as const)('with a %s', (logType) => {
    const options: AuditOptions<'utf8'> = { log: LOG, logType };

    it('[AUD-1] sets a field, returns its previous value, and logs both with the time of Redis', async () => {
      const redisTime = async (): Promise<number> => {
        const [seconds, microseconds] = await redis.client.time();
        return Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000);
      };
      const start = await redisTime();
      expect(await hashes.set(KEY, 'price', '5', { ...options, actor: 'ada' })).toBeNull();
      expect(await hashes.set(KEY, 'price', '6', options)).toBe('5');
      expect(await hashes.set(KEY, 'price', '6', options)).toBe('6');
      expect(await redis.client.hgetall(KEY)).toEqual({ price: '6' });
      const { entries, next } = await hashes.history(LOG);
      expect(next).toBeNull();
      expect(told(entries)).toEqual([
        ['price', '6', '6', null],
        ['price', '5', '6', null],
        ['price', null, '5', 'ada'],
      ]);
      for (const { time } of entries) {
        expect(time.getTime()).toBeGreaterThanOrEqual(start - 1);
        expect(time.getTime()).toBeLessThanOrEqual((await redisTime()) + 1);
      }
      expect(new Set(entries.map(({ id }) => id)).size).toBe(3);
    });

    it('[AUD-1] deletes a field, and logs nothing when the field does not exist', async () => {
      await hashes.set(KEY, 'price', '', options);
      expect(await hashes.delete(KEY, 'price', { ...options, actor: 'bob' })).toBe('');
      expect(await hashes.delete(KEY, 'price', options)).toBeNull();
      expect(await redis.client.exists(KEY)).toBe(0);
      expect(told((await hashes.history(LOG)).entries)).toEqual([
        ['price', '', null, 'bob'],
        ['price', null, '', null],
      ]);
    });

    it('[AUD-1] changes several fields in one step', async () => {
      await hashes.set(KEY, 'a', '1', options);
      const before = await hashes.update(KEY, { a: null, b: '2', ['__proto__']: '3', c: null }, options);
      expect(Object.entries(before)).toEqual([
        ['a', '1'],
        ['b', null],
        ['__proto__', null],
        ['c', null],
      ]);
      expect(await redis.client.hget(KEY, '__proto__')).toBe('3');
      expect(await redis.client.hkeys(KEY)).toHaveLength(2);
      expect(told((await hashes.history(LOG)).entries)).toEqual([
        ['__proto__', null, '3', null],
        ['b', null, '2', null],
        ['a', '1', null, null],
        ['a', null, '1', null],
      ]);
    });

    it('[AUD-2] stores and returns any bytes', async () => {
      const asBytes = { ...options, encoding: 'buffer' } as const;
      const field = '3:a,b,-,\n€';
      expect(await hashes.set(KEY, field, BYTES, { ...asBytes, actor: '-,4:ä' })).toBeNull();
      expect(await hashes.set(KEY, field, '', asBytes)).toEqual(BYTES);
      expect(await hashes.delete(KEY, field, asBytes)).toEqual(Buffer.alloc(0));
      const { entries } = await hashes.history(LOG, { encoding: 'buffer' });
      expect(
        entries.map((entry) => ({ field: entry.field, old: entry.old, new: entry.new, actor: entry.actor })),
      ).toEqual([
        { field, old: Buffer.alloc(0), new: null, actor: null },
        { field, old: BYTES, new: Buffer.alloc(0), actor: null },
        { field, old: null, new: BYTES, actor: '-,4:ä' },
      ]);
      await expect(hashes.history(LOG)).rejects.toThrow(InvalidUtf8Error);
      await redis.client.hset(KEY, 'f', BYTES);
      const error = await hashes.set(KEY, 'f', 'x', options).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(InvalidUtf8Error);
      expect(error).toMatchObject({ bytes: BYTES, outcome: 'applied' });
      expect(await redis.client.hget(KEY, 'f')).toBe('x');
    });

    it('[AUD-3] keeps only the newest entries, and reads them in pages that new entries do not shift', async () => {
      for (let i = 1; i <= 25; i++) await hashes.set(KEY, 'n', String(i), { ...options, maxEntries: 20 });
      const pages: (string | null)[][] = [];
      let before: string | null = null;
      do {
        const page: AuditHistory = await hashes.history(LOG, { limit: 8, before });
        pages.push(page.entries.map((entry) => entry.new));
        before = page.next;
        // Two come in and two go out between any two pages.
        await hashes.update(KEY, { x: '1', y: '2' }, { ...options, maxEntries: 20 });
      } while (before !== null);
      const numbers = Array.from({ length: 20 }, (_, i) => String(25 - i));
      // The entries of the third page have been removed by then.
      expect(pages).toEqual([numbers.slice(0, 8), numbers.slice(8, 16), []]);
      expect((await hashes.history(LOG, { limit: 20 })).next).toBeNull();
      expect((await hashes.history(LOG, { limit: 19 })).next).not.toBeNull();
      expect((await hashes.history('nothing')).entries).toEqual([]);
    });

    it('[AUD-3] keeps 1,000 entries by default, and changes 10,000 fields in one step', async () => {
      const changes = Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`f${i}`, String(i)]));
      const before = await hashes.update(KEY, changes, { ...options, timeoutMs: 20_000 });
      expect(Object.keys(before)).toHaveLength(10_000);
      expect(await redis.client.hlen(KEY)).toBe(10_000);
      expect(Number(await redis.client.call(logType === 'list' ? 'LLEN' : 'XLEN', LOG))).toBe(1_000);
      const { entries } = await hashes.history(LOG, { limit: 1_000 });
      expect(entries.map(({ field }) => field)).toEqual(
        Array.from({ length: 1_000 }, (_, i) => `f${9_999 - i}`),
      );
    });

    it('[AUD-4] changes nothing when the hash or the log has another type', async () => {
      await redis.client.set('{tea}:string', 'a');
      await redis.client.hset(KEY, 'f', 'a');
      const wrongHash = hashes.set('{tea}:string', 'f', 'x', options).catch((error: unknown) => error);
      expect(await wrongHash).toMatchObject({
        key: '{tea}:string',
        expected: 'hash',
        outcome: 'not-applied',
      });
      expect(await redis.client.exists(LOG)).toBe(0);
      await redis.client.sadd(LOG, 'a');
      const wrongLog = await hashes.update(KEY, { f: 'x' }, options).catch((error: unknown) => error);
      expect(wrongLog).toBeInstanceOf(WrongTypeError);
      expect(wrongLog).toMatchObject({ key: LOG, expected: logType });
      await expect(hashes.history(LOG)).rejects.toThrow(WrongTypeError);
      expect(await redis.client.hgetall(KEY)).toEqual({ f: 'a' });
      expect(await redis.client.smembers(LOG)).toEqual(['a']);
    });

    it('leaves the time to live of the hash unchanged', async () => {
      await redis.client.hset(KEY, 'f', 'a');
      await redis.client.pexpire(KEY, 100_000);
      await hashes.set(KEY, 'f', 'b', options);
      expect(await redis.client.pttl(KEY)).toBeGreaterThan(90_000);
      // Never without fields in between, or the time to live were gone.
      await hashes.update(KEY, { f: null, g: 'c' }, options);
      expect(await redis.client.hgetall(KEY)).toEqual({ g: 'c' });
      expect(await redis.client.pttl(KEY)).toBeGreaterThan(90_000);
    });

    it('[AUD-1] applies the fields it was given, even if the caller changes the object before the reply arrives', async () => {
      await redis.client.hset(KEY, { a: '1', b: '2' });
      const changes: Record<string, string> = { a: 'x', b: 'y' };
      const changing = hashes.update(KEY, changes, options);
      delete changes['a'];
      changes['c'] = 'z';
      expect(await changing).toEqual({ a: '1', b: '2' });
      let reads = 0;
      const once = Object.defineProperty({}, 'a', { enumerable: true, get: () => (reads++ ? 5 : 'once') });
      expect(await hashes.update(KEY, once, options)).toEqual({ a: 'x' });
      expect(await redis.client.hgetall(KEY)).toEqual({ a: 'once', b: 'y' });
    });
  });

  it('[AUD-4] reports a log whose entries have another format', async () => {
    await redis.client.rpush(LOG, 'a');
    await redis.client.hset(KEY, 'f', 'a');
    await expect(hashes.set(KEY, 'f', 'x', { log: LOG, logType: 'list' })).rejects.toThrow(
      NotAnAuditLogError,
    );
    expect(await redis.client.hget(KEY, 'f')).toBe('a');
    for (const entry of [
      'a',
      '3:1-1,',
      '3:1-1,1:f,-,-,-,',
      '3:1-1,1:f,1:a,-,-,-,',
      '03:1-1,1:f,1:a,-,-,',
      '3:1-1,1:f,1:a,-,-',
    ]) {
      await redis.client.del(LOG);
      await redis.client.rpush(LOG, entry);
      await expect(hashes.history(LOG)).rejects.toThrow(NotAnAuditLogError);
    }
    await redis.client.del(LOG);
    await redis.client.xadd(LOG, '*', 'event', 'login');
    await expect(hashes.history(LOG)).rejects.toThrow(NotAnAuditLogError);
  });

  it('writes list entries in the documented format', async () => {
    await hashes.set(KEY, 'price', '5', { log: LOG, logType: 'list' });
    await hashes.set(KEY, 'price', '€', { log: LOG, logType: 'list', actor: 'ada' });
    expect(await redis.client.lrange(LOG, 0, -1)).toEqual([
      expect.stringMatching(/^15:\d{13}-1,5:price,-,1:5,-,$/),
      expect.stringMatching(/^15:\d{13}-2,5:price,1:5,3:€,3:ada,$/),
    ]);
  });

  it('writes stream entries in the documented format', async () => {
    await hashes.set(KEY, 'price', '5', { log: LOG });
    await hashes.set(KEY, 'price', '6', { log: LOG, actor: 'ada' });
    expect((await redis.client.xrange(LOG, '-', '+')).map(([, pairs]) => pairs)).toEqual([
      ['field', 'price', 'new', '5'],
      ['field', 'price', 'old', '5', 'new', '6', 'actor', 'ada'],
    ]);
  });

  it('[ARG-1] refuses bad input before any command', async () => {
    const refused = async (argument: string, call: () => Promise<unknown>): Promise<void> => {
      const error = await call().catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(InvalidArgumentError);
      expect((error as InvalidArgumentError).argument).toBe(argument);
    };
    await refused('key', () => hashes.set('', 'f', 'x', { log: LOG }));
    await refused('field', () => hashes.set(KEY, 5 as never, 'x', { log: LOG }));
    await refused('field', () => hashes.set(KEY, '\ud800', 'x', { log: LOG }));
    await refused('value', () => hashes.set(KEY, 'f', 5 as never, { log: LOG }));
    await refused('value', () => hashes.set(KEY, 'f', null as never, { log: LOG }));
    await refused('options', () => hashes.set(KEY, 'f', 'x', undefined as never));
    await refused('options.log', () => hashes.set(KEY, 'f', 'x', {} as never));
    await refused('options.log', () => hashes.set(KEY, 'f', 'x', { log: KEY }));
    await refused('options.logType', () => hashes.set(KEY, 'f', 'x', { log: LOG, logType: 'set' as never }));
    await refused('options.maxEntries', () => hashes.set(KEY, 'f', 'x', { log: LOG, maxEntries: 0 }));
    await refused('options.actor', () => hashes.set(KEY, 'f', 'x', { log: LOG, actor: '' }));
    await refused('changes', () => hashes.update(KEY, {}, { log: LOG }));
    await refused('changes', () => hashes.update(KEY, ['a'] as never, { log: LOG }));
    await refused('changes.f', () => hashes.update(KEY, { f: undefined } as never, { log: LOG }));
    await refused('log', () => hashes.history(''));
    await refused('options.limit', () => hashes.history(LOG, { limit: 1_001 }));
    await refused('options.before', () => hashes.history(LOG, { before: '5' }));
    await refused('options.before', () => hashes.history(LOG, { before: '0-0' }));
    expect(await redis.client.exists(KEY)).toBe(0);
  });
});
