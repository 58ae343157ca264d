import type { TestingModule } from '@nestjs/testing';
import {
  InvalidArgumentError,
  TransactionConflictError,
  TransactionService,
  type Transaction,
} from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';

describe('the arguments of a transaction', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestingModule;
  let transactions: TransactionService;

  beforeAll(async () => {
    app = await boot({ connection: redis.server.url });
    transactions = app.get(TransactionService);
    await transactions.run(['k'], (tx) => void tx.write.incr('k'));
  });

  /** Each writes by `tx.write`, and changes what it has given at once. */
  const changes: [string, (tx: Transaction) => void, () => Promise<unknown>, unknown][] = [
    [
      'a Buffer',
      (tx) => {
        const bytes = Buffer.from('before');
        tx.write.set('k', bytes);
        bytes.fill('x');
      },
      () => redis.client.get('k'),
      'before',
    ],
    [
      'a key in a Buffer',
      (tx) => {
        const key = Buffer.from('before');
        tx.write.set(key, 1);
        key.fill('x');
      },
      () => redis.client.keys('*before*'),
      ['before'],
    ],
    [
      'an array',
      (tx) => {
        const items = ['a'];
        tx.write.rpush('k', items as never);
        items[0] = 'x';
        items.push('y');
      },
      () => redis.client.lrange('k', 0, -1),
      ['a'],
    ],
    [
      'a Buffer in an array',
      (tx) => {
        const item = Buffer.from('a');
        tx.write.rpush('k', [item] as never);
        item.fill('x');
      },
      () => redis.client.lrange('k', 0, -1),
      ['a'],
    ],
    [
      'an object',
      (tx) => {
        const fields: Record<string, unknown> = { a: 'before', b: Buffer.from('before') };
        tx.write.hset('k', fields as never);
        (fields['b'] as Buffer).fill('x');
        fields['a'] = undefined;
        fields['c'] = 1;
      },
      () => redis.client.hgetall('k'),
      { a: 'before', b: 'before' },
    ],
    [
      'an object with getters',
      (tx) => {
        let reads = 0;
        tx.write.hset('k', {
          get a(): unknown {
            return ++reads === 1 ? 'before' : undefined;
          },
        } as never);
      },
      () => redis.client.hgetall('k'),
      { a: 'before' },
    ],
    [
      'a Map',
      (tx) => {
        const fields = new Map<string, unknown>([['k', 'before']]);
        tx.write.mset(fields as never);
        fields.set('k', undefined).set('other', 1);
      },
      () => redis.client.mget('k', 'other'),
      ['before', null],
    ],
  ];

  it.each(changes)(
    '[ARG-2] are sent with the values they had when given: %s',
    async (_, change, ask, expected) => {
      await transactions.run(['k'], change);
      expect(await ask()).toEqual(expected);
    },
  );

  it('[ARG-2] are each caller’s own when one EXEC commits several transactions', async () => {
    const scratch: string[] = [];
    const bytes = Buffer.alloc(1);
    const save = (i: number): Promise<void> =>
      transactions.run(['last'], async (tx) => {
        await tx.read.get('last');
        scratch[0] = `caller ${i}`;
        bytes.fill(String(i));
        tx.write.set('last', i);
        tx.write.rpush(`row:${i}`, scratch as never);
        tx.write.rpush(`row:${i}`, bytes);
      });
    await Promise.all([1, 2, 3, 4].map(save));
    for (const i of [1, 2, 3, 4])
      expect(await redis.client.lrange(`row:${i}`, 0, -1)).toEqual([`caller ${i}`, String(i)]);
  });

  it('[ARG-2] protect the keys declared at the call, even if the caller reuses its array', async () => {
    const keys = ['a'];
    let attempts = 0;
    const running = transactions.run(
      keys,
      async (tx) => {
        attempts++;
        await tx.read.get('a');
        if (attempts === 1) await redis.client.set('a', 1);
        tx.write.set('out', 1);
      },
      { maxAttempts: 1 },
    );
    keys[0] = 'b';
    keys.push('');
    await expect(running).rejects.toThrow(TransactionConflictError);
    await expect(running).rejects.toMatchObject({ keys: ['a'] });
    // While it waits for its turn.
    const waiting = ['k'];
    const both = [
      transactions.run(['k'], async (tx) => {
        await tx.read.get('k');
        waiting[0] = 'another';
        tx.write.set('k', 'first');
      }),
      transactions.run(waiting, async (tx) => tx.write.set('seen', String(await tx.read.get('k')))),
    ];
    await Promise.allSettled(both);
    expect(await redis.client.get('k')).toBe('first');
  });

  it.each([
    [{ f: undefined }],
    [new Map([['f', {}]])],
    [{ f: {} }],
    [{ f: ['a', 'b'] }],
    [['a', ['b']]],
    [['a', undefined]],
  ])('[ARG-1] are refused inside other arguments: %p', async (value) => {
    const write = transactions.run(['k'], (tx) => void tx.write.hset('k', value as never));
    await expect(write).rejects.toThrow(InvalidArgumentError);
    expect(await redis.client.exists('k')).toBe(0);
  });

  it('[ARG-1] are refused if a list of keys has a hole, which would be sent as an empty text', async () => {
    const sparse = Object.assign([] as string[], { 1: 'k' });
    await expect(transactions.run(sparse, () => 1)).rejects.toThrow(InvalidArgumentError);
    const joined = transactions.run(['k'], () => transactions.run(sparse, () => 1));
    await expect(joined).rejects.toThrow(InvalidArgumentError);
    const holes = Object.assign([] as string[], { 1: 'v' });
    await expect(transactions.run(['k'], (tx) => void tx.write.rpush('l', holes as never))).rejects.toThrow(
      InvalidArgumentError,
    );
  });
});
