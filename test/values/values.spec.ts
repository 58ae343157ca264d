import { InvalidArgumentError, InvalidUtf8Error, ValueService, WrongTypeError } from 'nestjs-atomic-redis';
import { SERVERS, useTarget } from '../support/target.js';

const BYTES = Buffer.from([0, 0xff, 0xfe, 0x80, 10, 13, 0]);

describe.each(SERVERS)('values on %s', (kind) => {
  const redis = useTarget(kind);
  let values: ValueService;

  beforeAll(() => {
    values = redis.app.get(ValueService);
  });

  describe('compareAndSet', () => {
    it('[VAL-1] sets a value that equals the expected one, and returns the current value', async () => {
      await redis.client.set('k', 'a');
      expect(await values.compareAndSet('k', 'a', 'b')).toEqual({ swapped: true, current: 'b' });
      expect(await values.compareAndSet('k', 'a', 'c')).toEqual({ swapped: false, current: 'b' });
      expect(await redis.client.get('k')).toBe('b');
    });

    it('[VAL-1] treats null as a missing key, and an empty string as a value', async () => {
      expect(await values.compareAndSet('k', '', 'a')).toEqual({ swapped: false, current: null });
      expect(await values.compareAndSet('k', 'a', 'b')).toEqual({ swapped: false, current: null });
      expect(await redis.client.exists('k')).toBe(0);
      expect(await values.compareAndSet('k', null, '')).toEqual({ swapped: true, current: '' });
      expect(await values.compareAndSet('k', null, 'a')).toEqual({ swapped: false, current: '' });
      expect(await values.compareAndSet('k', '', 'a')).toEqual({ swapped: true, current: 'a' });
    });

    it('[VAL-1] lets one of many callers win, round by round', async () => {
      await redis.client.set('n', '0');
      const add = async (): Promise<number> => {
        let expected = '0';
        for (let refused = 0; ; refused++) {
          const next = String(Number(expected) + 1);
          const { swapped, current } = await values.compareAndSet('n', expected, next);
          if (swapped) return refused;
          expected = current!;
        }
      };
      const refusals = await Promise.all(Array.from({ length: 40 }, add));
      expect(await redis.client.get('n')).toBe('40');
      expect(Math.max(...refusals)).toBeGreaterThan(0);
    });

    it('[VAL-2] keeps the time to live by default', async () => {
      await redis.client.set('k', 'a', 'PX', 100_000);
      await values.compareAndSet('k', 'a', 'b');
      expect(await redis.client.pttl('k')).toBeGreaterThan(90_000);
      await values.compareAndSet('k', 'b', 'c', { ttlMs: 500_000 });
      expect(await redis.client.pttl('k')).toBeGreaterThan(400_000);
      await values.compareAndSet('k', 'wrong', 'c', { ttlMs: 5_000 });
      await values.compareAndSet('k', 'wrong', 'c', { keepTtl: false });
      await values.compareAndSet('k', 'c', 'd', { keepTtl: true });
      expect(await redis.client.pttl('k')).toBeGreaterThan(400_000);
      await values.compareAndSet('k', 'd', 'e', { keepTtl: false });
      expect(await redis.client.pttl('k')).toBe(-1);
      await values.compareAndSet('new', null, 'a');
      expect(await redis.client.pttl('new')).toBe(-1);
      await values.compareAndSet('short', null, 'a', { ttlMs: 100_000 });
      expect(await redis.client.pttl('short')).toBeGreaterThan(90_000);
    });
  });

  describe('compareAndDelete', () => {
    it('[VAL-1] deletes a value only if it equals the expected one', async () => {
      await redis.client.set('k', 'a');
      expect(await values.compareAndDelete('k', 'b')).toEqual({ deleted: false, current: 'a' });
      expect(await redis.client.get('k')).toBe('a');
      expect(await values.compareAndDelete('k', 'a')).toEqual({ deleted: true, current: null });
      expect(await redis.client.exists('k')).toBe(0);
      expect(await values.compareAndDelete('k', 'a')).toEqual({ deleted: false, current: null });
      expect(await values.compareAndDelete('k', '')).toEqual({ deleted: false, current: null });
    });
  });

  describe('fields of a hash', () => {
    it('[VAL-1] are set and deleted only if they equal the expected ones', async () => {
      expect(await values.compareAndSetField('h', 'f', '', 'a')).toEqual({ swapped: false, current: null });
      expect(await values.compareAndSetField('h', 'f', null, 'a')).toEqual({ swapped: true, current: 'a' });
      expect(await values.compareAndSetField('h', 'g', null, '')).toEqual({ swapped: true, current: '' });
      expect(await values.compareAndSetField('h', 'f', null, 'b')).toEqual({ swapped: false, current: 'a' });
      expect(await values.compareAndSetField('h', 'f', 'a', 'b')).toEqual({ swapped: true, current: 'b' });
      expect(await values.compareAndDeleteField('h', 'f', 'a')).toEqual({ deleted: false, current: 'b' });
      expect(await redis.client.hgetall('h')).toEqual({ f: 'b', g: '' });
      expect(await values.compareAndDeleteField('h', 'f', 'b')).toEqual({ deleted: true, current: null });
      expect(await redis.client.hgetall('h')).toEqual({ g: '' });
    });

    it('[VAL-2] leave the time to live of their hash unchanged', async () => {
      await redis.client.hset('h', 'f', 'a');
      await redis.client.pexpire('h', 100_000);
      await values.compareAndSetField('h', 'f', 'a', 'b');
      expect(await redis.client.pttl('h')).toBeGreaterThan(90_000);
    });

    it('[VAL-3] may have any name and hold any bytes', async () => {
      const options = { encoding: 'buffer' } as const;
      await values.compareAndSetField('h', BYTES, null, BYTES, options);
      expect(await values.compareAndSetField('h', BYTES, null, 'a', options)).toEqual({
        swapped: false,
        current: BYTES,
      });
      expect(await redis.client.hgetBuffer('h', BYTES)).toEqual(BYTES);
      expect(await values.compareAndDeleteField('h', BYTES, BYTES)).toEqual({ deleted: true, current: null });
    });
  });

  describe('getAndSet', () => {
    it('[VAL-1] returns the previous value', async () => {
      expect(await values.getAndSet('k', 'a')).toBeNull();
      expect(await values.getAndSet('k', '')).toBe('a');
      expect(await values.getAndSet('k', 'b')).toBe('');
      expect(await redis.client.get('k')).toBe('b');
    });

    it.each([true, false])('[VAL-2] keeps the time to live by default (marker: %s)', async (marker) => {
      await redis.client.set('k', 'a', 'PX', 100_000);
      await values.getAndSet('k', 'b', { deduplicate: marker });
      expect(await redis.client.pttl('k')).toBeGreaterThan(90_000);
      expect(await redis.client.pttl('k')).toBeLessThanOrEqual(100_000);
      await values.getAndSet('k', 'c', { ttlMs: 500_000, deduplicate: marker });
      expect(await redis.client.pttl('k')).toBeGreaterThan(400_000);
      await values.getAndSet('k', 'd', { keepTtl: false, deduplicate: marker });
      expect(await redis.client.pttl('k')).toBe(-1);
      await values.getAndSet('k', 'e', { deduplicate: marker });
      expect(await redis.client.pttl('k')).toBe(-1);
      await values.getAndSet('short', 'a', { ttlMs: 100_000, deduplicate: marker });
      expect(await redis.client.pttl('short')).toBeGreaterThan(90_000);
    });
  });

  describe('getAndDelete', () => {
    it.each([true, false])('[VAL-1] gives the value to only one caller (marker: %s)', async (marker) => {
      await redis.client.set('k', 'a');
      const taken = await Promise.all(
        Array.from({ length: 10 }, () => values.getAndDelete('k', { deduplicate: marker })),
      );
      expect(taken.filter((value) => value !== null)).toEqual(['a']);
      expect(await redis.client.exists('k')).toBe(0);
      await redis.client.set('k', '');
      expect(await values.getAndDelete('k', { deduplicate: marker })).toBe('');
    });
  });

  describe('getAndExpire', () => {
    it('[VAL-2] changes the time to live, and returns the value', async () => {
      expect(await values.getAndExpire('k', { ttlMs: 100_000 })).toBeNull();
      expect(await redis.client.exists('k')).toBe(0);
      await redis.client.set('k', 'a');
      expect(await values.getAndExpire('k', { ttlMs: 100_000 })).toBe('a');
      expect(await redis.client.pttl('k')).toBeGreaterThan(90_000);
      const at = new Date(Date.now() + 500_000);
      expect(await values.getAndExpire('k', { expireAt: at })).toBe('a');
      expect(await redis.client.call('PEXPIRETIME', 'k')).toBe(at.getTime());
      expect(await values.getAndExpire('k', { expireAt: at.getTime() + 1 })).toBe('a');
      expect(await redis.client.call('PEXPIRETIME', 'k')).toBe(at.getTime() + 1);
      expect(await values.getAndExpire('k', { persist: true })).toBe('a');
      expect(await redis.client.pttl('k')).toBe(-1);
      expect(await values.getAndExpire('k', { expireAt: 0 })).toBe('a');
      expect(await redis.client.exists('k')).toBe(0);
    });
  });

  it('[VAL-3] store and return any bytes', async () => {
    const options = { encoding: 'buffer' } as const;
    const other = Buffer.concat([BYTES, BYTES]);
    expect(await values.compareAndSet('k', null, BYTES, options)).toEqual({ swapped: true, current: BYTES });
    expect(await values.compareAndSet('k', other, 'x', options)).toEqual({ swapped: false, current: BYTES });
    expect(await values.compareAndSet('k', BYTES, other, options)).toEqual({ swapped: true, current: other });
    expect(await values.getAndExpire('k', { ttlMs: 100_000, ...options })).toEqual(other);
    expect(await values.getAndSet('k', BYTES, options)).toEqual(other);
    expect(await redis.client.getBuffer('k')).toEqual(BYTES);
    expect(await values.getAndDelete('k', options)).toEqual(BYTES);
  });

  it('[VAL-3] never return text that differs from the stored bytes: the error holds a value taken away', async () => {
    await redis.client.set('k', BYTES);
    const refused = await values.compareAndSet('k', 'a', 'b').catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(InvalidUtf8Error);
    expect(refused).toMatchObject({ key: 'k', bytes: BYTES, outcome: 'not-applied' });
    const taken = await values.getAndDelete('k').catch((error: unknown) => error);
    expect(taken).toBeInstanceOf(InvalidUtf8Error);
    expect(taken).toMatchObject({ key: 'k', bytes: BYTES, outcome: 'applied' });
    await expect(values.compareAndSet('k', null, BYTES)).rejects.toThrow(InvalidArgumentError);
    expect(await redis.client.exists('k')).toBe(0);
  });

  it('[VAL-3] distinguish numbers that a conversion would make equal', async () => {
    const texts = [
      '9007199254740993',
      '-9223372036854775808',
      '9223372036854775807',
      '1e3',
      '0x10',
      '-0',
      '1.50',
      'NaN',
      ' 5',
    ];
    for (const text of texts) {
      await redis.client.set('k', text);
      for (const near of [String(Number(text)), `${text} `, text.toUpperCase() + '0']) {
        expect(await values.compareAndSet('k', near === text ? `${near}!` : near, 'x')).toEqual({
          swapped: false,
          current: text,
        });
      }
      expect(await values.compareAndSet('k', text, text)).toEqual({ swapped: true, current: text });
    }
  });

  it('[VAL-4] leave a key of another type untouched', async () => {
    await redis.client.rpush('list', 'a');
    await redis.client.set('string', 'a');
    const calls: [string, () => Promise<unknown>][] = [
      ['list', () => values.compareAndSet('list', null, 'x')],
      ['list', () => values.compareAndSet('list', 'a', 'x')],
      ['list', () => values.compareAndDelete('list', 'a')],
      ['list', () => values.getAndSet('list', 'x')],
      ['list', () => values.getAndSet('list', 'x', { deduplicate: false })],
      ['list', () => values.getAndDelete('list')],
      ['list', () => values.getAndDelete('list', { deduplicate: false })],
      ['list', () => values.getAndExpire('list', { ttlMs: 1 })],
      ['string', () => values.compareAndSetField('string', 'f', null, 'x')],
      ['string', () => values.compareAndDeleteField('string', 'f', 'x')],
    ];
    for (const [key, call] of calls) {
      const error = await call().catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(WrongTypeError);
      expect(error).toMatchObject({ key, outcome: 'not-applied', retryable: false });
    }
    expect(await redis.client.lrange('list', 0, -1)).toEqual(['a']);
    expect(await redis.client.pttl('list')).toBe(-1);
    expect(await redis.client.get('string')).toBe('a');
  });
});
