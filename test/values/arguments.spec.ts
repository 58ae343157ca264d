import { Test, type TestingModule } from '@nestjs/testing';
import { AtomicRedisModule, InvalidArgumentError, ValueService } from 'nestjs-atomic-redis';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';

describe('arguments of values', () => {
  const redis = useRedis();
  let app: TestingModule;
  let values: ValueService;

  beforeAll(async () => {
    app = await Test.createTestingModule({
      imports: [AtomicRedisModule.forRoot({ connection: redis.server.url })],
    }).compile();
    await app.init();
    values = app.get(ValueService);
  });

  afterAll(() => app.close());

  const refused = async (argument: string, message: RegExp, call: () => Promise<unknown>): Promise<void> => {
    const counts = await countCommands(redis.client, async () => {
      const error = await call().catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(InvalidArgumentError);
      expect((error as InvalidArgumentError).argument).toBe(argument);
      expect((error as InvalidArgumentError).message).toMatch(message);
    });
    expect(counts).toEqual({});
  };

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

  it.each(NOT_BYTES)('[ARG-1] %s is no value', async (_, value) => {
    await refused('next', /must be a well-formed string or a Buffer/, () =>
      values.compareAndSet('k', null, value),
    );
    await refused('expected', /must be/, () => values.compareAndSet('k', value, 'a'));
    await refused('expected', /must be/, () => values.compareAndDelete('k', value));
    await refused('field', /must be/, () => values.compareAndSetField('k', value, null, 'a'));
    await refused('next', /must be/, () => values.compareAndSetField('k', 'f', null, value));
    await refused('expected', /must be/, () => values.compareAndDeleteField('k', 'f', value));
    await refused('next', /must be/, () => values.getAndSet('k', value));
  });

  it('[ARG-1] null stands for no value only where one is expected', async () => {
    await refused('next', /null/, () => values.compareAndSet('k', 'a', null as never));
    await refused('expected', /null/, () => values.compareAndDelete('k', null as never));
  });

  it('[ARG-1] keys, options and combinations of them are checked', async () => {
    await refused('key', /non-empty string, received ""/, () => values.getAndDelete(''));
    await refused('options.ttlMs', /from 1 to/, () => values.getAndSet('k', 'a', { ttlMs: 0 }));
    await refused('options.keepTtl', /absent or false when options.ttlMs is given/, () =>
      values.compareAndSet('k', null, 'a', { ttlMs: 1, keepTtl: true }),
    );
    await refused('options.ttl', /known options are/, () =>
      values.compareAndSet('k', null, 'a', { ttl: 1 } as never),
    );
    await refused('options.encoding', /"utf8" or "buffer"/, () =>
      values.getAndDelete('k', { encoding: 'latin1' as never }),
    );
    await refused('options', /exactly one of/, () => values.getAndExpire('k', {} as never));
    await refused('options', /exactly one of/, () =>
      values.getAndExpire('k', { ttlMs: 1, persist: true } as never),
    );
    await refused('options.expireAt', /valid Date/, () =>
      values.getAndExpire('k', { expireAt: new Date(Number.NaN) }),
    );
    await refused('options.expireAt', /valid Date/, () => values.getAndExpire('k', { expireAt: -1 }));
    await refused('options.persist', /true or absent/, () =>
      values.getAndExpire('k', { persist: false as never }),
    );
    await refused('next', /UTF-8 text, unless options.encoding is "buffer"/, () =>
      values.compareAndSet('k', null, Buffer.from([0xff])),
    );
  });

  it('returns Buffers or strings, as the encoding says, also to the compiler', async () => {
    const text: string | null = await values.getAndSet('k', Buffer.from('a'));
    const bytes: Buffer | null = await values.getAndSet('k', 'b', { encoding: 'buffer', keepTtl: false });
    // @ts-expect-error it is a Buffer
    const wrong: string | null = await values.getAndDelete('k', { encoding: 'buffer' });
    expect([text, bytes, wrong]).toEqual([null, Buffer.from('a'), Buffer.from('b')]);
  });
});
