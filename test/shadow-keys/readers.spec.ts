import type { TestingModule } from '@nestjs/testing';
import { Redis } from 'ioredis';
import { ShadowKeyService } from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';
import { fieldsOf, startApp } from './app.js';

const SWAPS = 100;
/** More than one chunk. */
const FIELDS = 1_200;

describe('readers during swaps', () => {
  const redis = useRedis();
  let app: TestingModule;
  let shadowKeys: ShadowKeyService;
  let readers: Redis[];

  beforeEach(async () => {
    app = await startApp(redis.server.url);
    shadowKeys = app.get(ShadowKeyService);
    readers = [new Redis(redis.server.url), new Redis(redis.server.url)];
  });

  afterEach(async () => {
    for (const reader of readers) reader.disconnect();
    await app.close();
  });

  /** Reads over and over while `work` runs, and returns each different thing that was seen. */
  async function watch(
    read: (client: Redis) => Promise<string>,
    work: () => Promise<unknown>,
  ): Promise<Set<string>> {
    const seen = new Set<string>();
    let done = false;
    const poll = async (client: Redis): Promise<void> => {
      while (!done) seen.add(await read(client));
    };
    const polling = Promise.all(readers.map(poll));
    try {
      await work();
    } finally {
      done = true;
      await polling;
    }
    return seen;
  }

  const generations = Array.from({ length: SWAPS + 1 }, (_, i) => `v${i}`);

  it('[SK-13] see one whole value, or the next whole one', async () => {
    await shadowKeys.replace('k', fieldsOf('v0', FIELDS));
    const seen = await watch(
      async (client) => {
        const fields = await client.hgetall('k');
        return `${Object.keys(fields).length} × ${[...new Set(Object.values(fields))].join('+')}`;
      },
      async () => {
        for (const [i, generation] of generations.slice(1).entries()) {
          await shadowKeys.replace('k', fieldsOf(generation, FIELDS), {
            mode: i % 2 ? 'copy' : 'rename',
            keepPrevious: i % 3 === 0,
          });
        }
      },
    );
    expect(seen.size).toBeGreaterThan(10);
    expect([...seen].filter((one) => !new RegExp(`^${FIELDS} × v\\d+$`).test(one))).toEqual([]);
  });

  it('[SK-13] see several keys change together, forwards and back', async () => {
    const replaceAll = (generation: string, keepPrevious: boolean) =>
      shadowKeys.replaceAll(
        { a: { v: generation }, b: fieldsOf(generation, 10), c: { v: generation } },
        { keepPrevious },
      );
    await replaceAll('v0', false);
    const seen = await watch(
      async (client) => {
        const replies = await client.multi().hvals('a').hvals('b').hvals('c').exec();
        const values = replies!.map(([, vals]) => [...new Set(vals as string[])].join('+'));
        return values.join(' ');
      },
      async () => {
        for (const [i, generation] of generations.slice(1).entries()) {
          await replaceAll(generation, i % 2 === 0);
          if (i % 4 === 0) await shadowKeys.rollback(['a', 'b', 'c']);
        }
      },
    );
    expect(seen.size).toBeGreaterThan(10);
    expect([...seen].filter((one) => !/^(v\d+) \1 \1$/.test(one))).toEqual([]);
  });

  it('[SK-13] see one whole value among many concurrent builds, and finally the newest', async () => {
    await shadowKeys.replace('k', fieldsOf('v0', FIELDS), { version: 0 });
    const seen = await watch(
      async (client) => [...new Set(await client.hvals('k'))].join('+'),
      () =>
        Promise.all(
          generations
            .slice(1, 21)
            .map((generation, i) =>
              shadowKeys.replace('k', fieldsOf(generation, FIELDS), { version: i + 1 }),
            ),
        ),
    );
    const order = [...seen].map((one) => Number(one.slice(1)));
    expect(order).toEqual(order.toSorted((a, b) => a - b));
    expect(await redis.client.hget('k', 'f0')).toBe('v20');
    expect(await redis.client.keys('atomic:shadow:*')).toEqual([]);
  });
});
