import type { TestingModule } from '@nestjs/testing';
import { InvalidArgumentError, ValueService } from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';

describe('arguments of values', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestingModule;
  let values: ValueService;

  beforeAll(async () => {
    app = await boot({ connection: redis.server.url });
    values = app.get(ValueService);
  });

  /** Returns the error of the call, and the commands that were sent for it. */
  const refusal = async (call: () => Promise<unknown>): Promise<object> => {
    let error: unknown;
    const commands = await countCommands(redis.client, async () => {
      error = await call().catch((thrown: unknown) => thrown);
    });
    const { name, argument, message } = error as InvalidArgumentError;
    return { name, argument, message, commands };
  };

  const refusedFor = (argument: string, message: RegExp): object => ({
    name: InvalidArgumentError.name,
    argument,
    message: expect.stringMatching(message),
    commands: {},
  });

  const NOT_BYTES: [string, never][] = [
    ['a number beyond 2^53', (2 ** 53 + 2) as never],
    ['-0', -0 as never],
    ['NaN', Number.NaN as never],
    ['Infinity', Number.POSITIVE_INFINITY as never],
    ['1.5', 1.5 as never],
    ['a bigint', 5n as never],
    ['a boolean', true as never],
    ['undefined', undefined as never],
    ['an object', {} as never],
    ['a Uint8Array', new Uint8Array(2) as never],
    ['half of a surrogate pair', '\ud800' as never],
  ];

  it.each(NOT_BYTES)('[ARG-1] %s is not a value', async (_, value) => {
    expect(await refusal(() => values.compareAndSet('k', null, value))).toEqual(
      refusedFor('next', /must be a well-formed string or a Buffer/),
    );
    expect(await refusal(() => values.compareAndSet('k', value, 'a'))).toEqual(
      refusedFor('expected', /must be/),
    );
    expect(await refusal(() => values.compareAndDelete('k', value))).toEqual(
      refusedFor('expected', /must be/),
    );
    expect(await refusal(() => values.compareAndSetField('k', value, null, 'a'))).toEqual(
      refusedFor('field', /must be/),
    );
    expect(await refusal(() => values.compareAndSetField('k', 'f', null, value))).toEqual(
      refusedFor('next', /must be/),
    );
    expect(await refusal(() => values.compareAndDeleteField('k', 'f', value))).toEqual(
      refusedFor('expected', /must be/),
    );
    expect(await refusal(() => values.getAndSet('k', value))).toEqual(refusedFor('next', /must be/));
  });

  it('[ARG-1] null stands for a missing value only where one is expected', async () => {
    expect(await refusal(() => values.compareAndSet('k', 'a', null as never))).toEqual(
      refusedFor('next', /null/),
    );
    expect(await refusal(() => values.compareAndDelete('k', null as never))).toEqual(
      refusedFor('expected', /null/),
    );
  });

  it('[ARG-1] keys, options and combinations of them are validated', async () => {
    expect(await refusal(() => values.getAndDelete(''))).toEqual(
      refusedFor('key', /non-empty string, received ""/),
    );
    expect(await refusal(() => values.getAndDelete('half \ud800 of a pair'))).toEqual(
      refusedFor('key', /well-formed string, received/),
    );
    expect(await refusal(() => values.getAndSet('k', 'a', { ttlMs: 0 }))).toEqual(
      refusedFor('options.ttlMs', /from 1 to/),
    );
    expect(await refusal(() => values.compareAndSet('k', null, 'a', { ttlMs: 1, keepTtl: true }))).toEqual(
      refusedFor('options.keepTtl', /absent or false when options.ttlMs is given/),
    );
    expect(await refusal(() => values.compareAndSet('k', null, 'a', { ttl: 1 } as never))).toEqual(
      refusedFor('options.ttl', /there is no such option/),
    );
    expect(await refusal(() => values.getAndDelete('k', { encoding: 'latin1' as never }))).toEqual(
      refusedFor('options.encoding', /"utf8" or "buffer"/),
    );
    expect(await refusal(() => values.getAndExpire('k', {} as never))).toEqual(
      refusedFor('options', /exactly one of/),
    );
    expect(await refusal(() => values.getAndExpire('k', { ttlMs: 1, persist: true } as never))).toEqual(
      refusedFor('options', /exactly one of/),
    );
    expect(await refusal(() => values.getAndExpire('k', { expireAt: new Date(Number.NaN) }))).toEqual(
      refusedFor('options.expireAt', /valid Date/),
    );
    expect(await refusal(() => values.getAndExpire('k', { expireAt: -1 }))).toEqual(
      refusedFor('options.expireAt', /valid Date/),
    );
    expect(await refusal(() => values.getAndExpire('k', { persist: false as never }))).toEqual(
      refusedFor('options.persist', /true or absent/),
    );
    expect(await refusal(() => values.compareAndSet('k', null, Buffer.from([0xff])))).toEqual(
      refusedFor('next', /UTF-8 text, unless options.encoding is "buffer"/),
    );
  });

  it('the encoding decides between Buffers and strings, in the types too', async () => {
    const text: string | null = await values.getAndSet('k', Buffer.from('a'));
    const bytes: Buffer | null = await values.getAndSet('k', 'b', { encoding: 'buffer', keepTtl: false });
    // @ts-expect-error it is a Buffer
    const wrong: string | null = await values.getAndDelete('k', { encoding: 'buffer' });
    expect([text, bytes, wrong]).toEqual([null, Buffer.from('a'), Buffer.from('b')]);
  });
});
