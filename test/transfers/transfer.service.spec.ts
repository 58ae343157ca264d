import { Test, type TestingModule } from '@nestjs/testing';
import {
  AtomicRedisModule,
  BalanceOverflowError,
  CrossSlotError,
  UnsafeIntegerError,
  InsufficientFundsError,
  InvalidArgumentError,
  NotAnIntegerError,
  NotReplicatedError,
  RedisReplyError,
  IllegalTransactionStateError,
  TransferService,
  WrongTypeError,
  type TransferOptions,
} from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { startCluster } from '../support/cluster.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { inTransaction } from '../support/in-transaction.js';

const MAX = 2n ** 63n - 1n;
const MIN = -(2n ** 63n);

describe('TransferService', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestingModule;
  let transfers: TransferService;

  beforeAll(async () => {
    app = await boot({ connection: redis.server.url });
    transfers = app.get(TransferService);
  });

  const balances = async (...keys: string[]) => await redis.client.mget(...keys);
  const entries = async (log: string) =>
    (await redis.client.xrange(log, '-', '+')).map(([, fields]) =>
      Object.fromEntries(
        Array.from({ length: fields.length / 2 }, (_, i) => [fields[2 * i], fields[2 * i + 1]]),
      ),
    );

  it('[TR-1] moves an amount and returns both balances', async () => {
    await redis.client.mset('a', 100, 'b', 5);
    expect(await transfers.transfer({ from: 'a', to: 'b', amount: 30 })).toEqual({ from: 70, to: 35 });
    expect(await balances('a', 'b')).toEqual(['70', '35']);
  });

  it('[TR-1] takes one round trip, audited or not', async () => {
    await redis.client.mset('a', 100);
    for (const options of [{}, { audit: { log: 'log' } }]) {
      await transfers.transfer({ from: 'a', to: 'b', amount: 1 }, options);
      const counts = await countCommands(redis.client, () =>
        transfers.transfer({ from: 'a', to: 'b', amount: 1 }, options),
      );
      expect(counts['evalsha']).toBe(1);
      expect(counts['eval']).toBeUndefined();
    }
  });

  it('[TR-2] refuses a transfer that would leave less than the minimum, with balance, minimum and amount, and moves nothing', async () => {
    await redis.client.set('a', 10);
    const error = await transfers
      .transfer({ from: 'a', to: 'b', amount: 8, min: 3 })
      .catch((e: unknown) => e);
    expect(error).toBeInstanceOf(InsufficientFundsError);
    expect(error).toMatchObject({
      key: 'a',
      balance: 10,
      minimum: 3,
      amount: 8,
      leg: 0,
      code: 'INSUFFICIENT_FUNDS',
      outcome: 'not-applied',
      retryable: true,
    });
    expect(await balances('a', 'b')).toEqual(['10', null]);
    expect(await transfers.transfer({ from: 'a', to: 'b', amount: 7, min: 3 })).toEqual({
      from: 3,
      to: 7,
    });
  });

  it('[TR-2] counts a missing balance as 0, and allows a minimum below 0 as an overdraft', async () => {
    await expect(transfers.transfer({ from: 'a', to: 'b', amount: 1 })).rejects.toMatchObject({ balance: 0 });
    expect(await redis.client.exists('a', 'b')).toBe(0);
    const overdraft = { from: 'a', to: 'b', amount: 5, min: -5 };
    expect(await transfers.transfer(overdraft)).toEqual({ from: -5, to: 5 });
    await expect(transfers.transfer({ ...overdraft, amount: 1 })).rejects.toThrow(InsufficientFundsError);
  });

  it('[TR-2] checks only debited balances: one below its minimum can receive', async () => {
    await redis.client.mset('a', 10, 'b', -100);
    expect(await transfers.transfer({ from: 'a', to: 'b', amount: 10 })).toEqual({ from: 0, to: -90 });
  });

  it('[TR-3] moves all legs or none, each after the previous one', async () => {
    await redis.client.mset('a', 10, 'b', 0);
    const legs = [
      { from: 'a', to: 'b', amount: 10 },
      { from: 'b', to: 'c', amount: 7 },
      { from: 'c', to: 'a', amount: 2 },
    ];
    expect(await transfers.transferAll(legs)).toEqual([
      { from: 0, to: 10 },
      { from: 3, to: 7 },
      { from: 5, to: 2 },
    ]);
    expect(await balances('a', 'b', 'c')).toEqual(['2', '3', '5']);

    // An amount that a later leg brings cannot be spent yet.
    await redis.client.mset('a', 10, 'b', 0, 'c', 0);
    const [first, second] = legs as [(typeof legs)[0], (typeof legs)[0]];
    await expect(transfers.transferAll([second, first])).rejects.toMatchObject({
      key: 'b',
      balance: 0,
      leg: 0,
    });
    await expect(transfers.transferAll([first, second, second])).rejects.toMatchObject({
      key: 'b',
      balance: 3,
      leg: 2,
    });
    expect(await balances('a', 'b', 'c')).toEqual(['10', '0', '0']);
  });

  it('[TR-3] moves 10,000 legs over thousands of balances, and logs each', async () => {
    await redis.client.set('bank', 10_000);
    const legs = Array.from({ length: 10_000 }, (_, i) => ({
      from: 'bank',
      to: `to${i % 6_000}`,
      amount: 1,
    }));
    const results = await transfers.transferAll(legs, { audit: { log: 'log' }, timeoutMs: 20_000 });
    expect(results).toHaveLength(10_000);
    expect(results.at(-1)).toEqual({ from: 0, to: 2 });
    expect(await balances('bank', 'to0', 'to5999')).toEqual(['0', '2', '1']);
    expect(await redis.client.xlen('log')).toBe(10_000);
  });

  it('[TR-3] moves the legs it was given, even if the caller changes the array afterwards', async () => {
    await redis.client.set('a', 10);
    const legs = [{ from: 'a', to: 'b', amount: 4 }];
    const moving = transfers.transferAll(legs);
    legs[0]!.amount = 5;
    legs.length = 0;
    expect(await moving).toEqual([{ from: 6, to: 4 }]);
  });

  it('[TR-4] preserves times to live', async () => {
    await redis.client.set('a', 10, 'PX', 60_000);
    await redis.client.set('b', 10, 'PX', 90_000);
    await transfers.transferAll([
      { from: 'a', to: 'b', amount: 10 },
      { from: 'b', to: 'c', amount: 1 },
    ]);
    expect(await redis.client.pttl('a')).toBeGreaterThan(30_000);
    expect(await redis.client.pttl('a')).toBeLessThanOrEqual(60_000);
    expect(await redis.client.pttl('b')).toBeGreaterThan(60_000);
    expect(await redis.client.pttl('c')).toBe(-1);
    expect(await redis.client.get('a')).toBe('0');
  });

  it('[TR-5] is exact over 64 bits, and refuses results that a number or 64 bits cannot hold', async () => {
    await redis.client.mset('a', String(MAX), 'b', '0', 'low', String(MIN));
    expect(await transfers.transfer({ from: 'a', to: 'b', amount: MAX - 1n })).toEqual({
      from: 1n,
      to: MAX - 1n,
    });
    expect(await transfers.transfer({ from: 'b', to: 'low', amount: MAX - 1n })).toEqual({
      from: 0n,
      to: -2n,
    });

    await redis.client.mset('a', 10, 'b', String(MAX));
    await expect(transfers.transfer({ from: 'a', to: 'b', amount: 1n })).rejects.toMatchObject({
      constructor: BalanceOverflowError,
      key: 'b',
      amount: 1n,
      leg: 0,
      outcome: 'not-applied',
    });
    await redis.client.mset('a', 10, 'b', String(2n ** 53n));
    await expect(transfers.transfer({ from: 'a', to: 'b', amount: 1 })).rejects.toMatchObject({
      constructor: UnsafeIntegerError,
      key: 'b',
    });
    await expect(transfers.transfer({ from: 'b', to: 'a', amount: 1n, min: MAX })).rejects.toMatchObject({
      balance: 2n ** 53n,
    });
    await expect(transfers.transfer({ from: 'b', to: 'a', amount: 1, min: MAX })).rejects.toMatchObject({
      balance: 2n ** 53n,
      amount: 1,
    });
    expect(await balances('a', 'b')).toEqual(['10', String(2n ** 53n)]);
    // The lower end: nothing below it, whatever the minimum.
    await redis.client.set('low', String(MIN));
    await expect(transfers.transfer({ from: 'low', to: 'a', amount: 1n, min: MIN })).rejects.toMatchObject({
      balance: MIN,
    });
  });

  it.each(['abc', '1e3', '1.5', '', ' 5', '007', '0x10', '-0', '9223372036854775808', 'NaN'])(
    '[TR-6] leaves a balance of %j unchanged',
    async (garbage) => {
      for (const [from, to] of [
        ['good', 'bad'],
        ['bad', 'good'],
      ] as const) {
        await redis.client.mset('good', 10, 'bad', garbage);
        const moving = transfers.transfer({ from, to, amount: 1 }, { audit: { log: 'log' } });
        await expect(moving).rejects.toMatchObject({
          constructor: NotAnIntegerError,
          key: 'bad',
          found: 'other-string',
        });
        expect(await balances('good', 'bad')).toEqual(['10', garbage]);
        expect(await redis.client.exists('log')).toBe(0);
      }
    },
  );

  it('[TR-6] does not mistake a missing right for a wrong type', async () => {
    await redis.client.call(
      'ACL',
      'SETUSER',
      'clerk',
      'reset',
      'on',
      '>p',
      '~*',
      '&*',
      '+@all',
      '-type',
      '-xlen',
    );
    const { port } = redis.server;
    const clerk = await boot({ connection: { host: '127.0.0.1', port, username: 'clerk', password: 'p' } });

    await redis.client.set('a', 10);
    const moving = clerk
      .get(TransferService)
      .transfer({ from: 'a', to: 'b', amount: 1 }, { audit: { log: 'log' } });
    await expect(moving).rejects.toThrow(RedisReplyError);
    expect(await balances('a', 'b')).toEqual(['10', null]);
  });

  it('[TR-6] leaves keys of other types unchanged', async () => {
    await redis.client.set('good', 10);
    await redis.client.rpush('list', 'x');
    await expect(transfers.transfer({ from: 'good', to: 'list', amount: 1 })).rejects.toMatchObject({
      constructor: NotAnIntegerError,
      key: 'list',
      found: 'other-type',
    });
    const audit = { log: 'list' };
    await expect(transfers.transfer({ from: 'good', to: 'b', amount: 1 }, { audit })).rejects.toMatchObject({
      constructor: WrongTypeError,
      key: 'list',
      expected: 'stream',
    });
    expect(await balances('good', 'b')).toEqual(['10', null]);
    expect(await redis.client.lrange('list', 0, -1)).toEqual(['x']);
  });

  describe('with an audit log', () => {
    it('[TR-7] appends an entry for each leg in the same step', async () => {
      await redis.client.set('a', 10);
      const [seconds] = await redis.client.time();
      await transfers.transferAll(
        [
          { from: 'a', to: 'b', amount: 4 },
          { from: 'b', to: 'c', amount: 1n },
        ],
        { audit: { log: 'log', reference: 'payment-7' } },
      );
      const atMs = expect.stringMatching(/^\d{13}$/) as string;
      const logged = await entries('log');
      expect(logged).toEqual([
        { reference: 'payment-7', from: 'a', to: 'b', amount: '4', fromBalance: '6', toBalance: '4', atMs },
        { reference: 'payment-7', from: 'b', to: 'c', amount: '1', fromBalance: '3', toBalance: '1', atMs },
      ]);
      expect(Number(logged[0]!['atMs'])).toBeGreaterThanOrEqual(Number(seconds) * 1000);
      expect(Number(logged[0]!['atMs'])).toBeLessThan(Number(seconds) * 1000 + 60_000);
    });

    it('[TR-7] keeps at most maxEntries, and all without it, and logs no refused transfer', async () => {
      await redis.client.set('a', 10);
      const move = (options?: TransferOptions) =>
        transfers.transfer({ from: 'a', to: 'b', amount: 1 }, options);
      for (let i = 0; i < 5; i++) await move({ audit: { log: 'log' } });
      expect(await redis.client.xlen('log')).toBe(5);
      await move({ audit: { log: 'log', maxEntries: 2 } });
      expect((await entries('log')).map(({ fromBalance }) => fromBalance)).toEqual(['5', '4']);
      await expect(
        transfers.transfer({ from: 'a', to: 'b', amount: 100 }, { audit: { log: 'log' } }),
      ).rejects.toThrow(InsufficientFundsError);
      expect(await redis.client.xlen('log')).toBe(2);
    });

    it('[TR-7] moves nothing when the stream cannot take an entry', async () => {
      await redis.client.set('a', 10);
      const last = '18446744073709551615';
      await redis.client.xadd('log', `${last}-${last}`, 'x', 'y');
      await expect(
        transfers.transfer({ from: 'a', to: 'b', amount: 1 }, { audit: { log: 'log' } }),
      ).rejects.toThrow(RedisReplyError);
      expect(await balances('a', 'b')).toEqual(['10', null]);
    });
  });

  it('[TR-8] does all or nothing when memory is full', async () => {
    await redis.client.mset('a', 10, 'b', 10);
    try {
      await redis.client.config('SET', 'maxmemory', 1);
      for (const options of [
        {},
        { deduplicate: false },
        { audit: { log: 'log' } },
        { audit: { log: 'log' }, deduplicate: false },
      ]) {
        await expect(transfers.transfer({ from: 'a', to: 'b', amount: 1 }, options)).rejects.toMatchObject({
          constructor: RedisReplyError,
          reply: 'OOM',
          outcome: 'not-applied',
        });
      }
    } finally {
      await redis.client.config('SET', 'maxmemory', 0);
    }
    expect(await balances('a', 'b')).toEqual(['10', '10']);
    expect((await redis.client.keys('*')).toSorted()).toEqual(['a', 'b']);
  });

  it('[TR-1] reports missing replicas with the balances, and a refusal as a refusal', async () => {
    await redis.client.set('a', 10);
    const durability = { replicas: 1, timeoutMs: 50 };
    const leg = { from: 'a', to: 'b', amount: 6 };
    await expect(transfers.transfer(leg, { durability })).rejects.toMatchObject({
      constructor: NotReplicatedError,
      result: { from: 4, to: 6 },
      outcome: 'applied',
    });
    await expect(transfers.transfer(leg, { durability })).rejects.toThrow(InsufficientFundsError);
  });

  it('[TR-9] is refused inside a transaction by default', async () => {
    await redis.client.set('a', 10);
    const inside = (options?: TransferOptions) =>
      inTransaction(() => transfers.transfer({ from: 'a', to: 'b', amount: 1 }, options));
    await expect(inside()).rejects.toThrow(IllegalTransactionStateError);
    expect(await inside({ propagation: 'outside' })).toEqual({ from: 9, to: 1 });
  });

  const leg = { from: 'a', to: 'b', amount: 1 };
  class Refund {
    readonly from = 'a';
    readonly to = 'b';
    get amount(): number {
      return -5;
    }
  }
  it.each([
    ['the same key twice', () => transfers.transfer({ ...leg, to: 'a' }), /transfer\.to must be another key/],
    [
      'an amount of 0',
      () => transfers.transfer({ ...leg, amount: 0 }),
      /transfer\.amount must be an integer above 0/,
    ],
    ['a negative amount', () => transfers.transfer({ ...leg, amount: -1n }), /received -1n/],
    [
      'a negative amount from a getter of its class',
      () => transfers.transfer(new Refund()),
      /transfer\.amount must be an integer above 0, received -5/,
    ],
    ['half an amount', () => transfers.transfer({ ...leg, amount: 1.5 }), /transfer\.amount/],
    ['NaN', () => transfers.transfer({ ...leg, amount: Number.NaN }), /transfer\.amount/],
    ['an amount as text', () => transfers.transfer({ ...leg, amount: '1' as never }), /transfer\.amount/],
    ['too large an amount', () => transfers.transfer({ ...leg, amount: 2n ** 63n }), /transfer\.amount/],
    ['an inexact number', () => transfers.transfer({ ...leg, amount: 2 ** 53 }), /transfer\.amount/],
    ['no amount', () => transfers.transfer({ from: 'a', to: 'b' } as never), /transfer\.amount/],
    ['an empty key', () => transfers.transfer({ ...leg, from: '' }), /transfer\.from/],
    // In Redis the two would be one key, and the amount would come from nowhere.
    [
      'halves of surrogate pairs',
      () => transfers.transfer({ ...leg, from: 'a\ud800', to: 'a\ud801' }),
      /transfer\.from must be a well-formed string, received "a\\ud800"/,
    ],
    [
      'half of a surrogate pair as reference',
      () => transfers.transfer(leg, { audit: { log: 'l', reference: '\udfff' } }),
      /audit\.reference/,
    ],
    ['no key', () => transfers.transfer({ amount: 1, to: 'b' } as never), /transfer\.from/],
    ['a wrong minimum', () => transfers.transfer({ ...leg, min: 0.5 }), /transfer\.min/],
    [
      'an unknown field',
      () => transfers.transfer({ ...leg, minimum: 1 } as never),
      /transfer\.minimum must be absent/,
    ],
    ['nothing', () => transfers.transfer(undefined as never), /transfer must be an options object/],
    ['no legs', () => transfers.transferAll([]), /legs must be an array of 1 to 10000/],
    ['a wrong leg', () => transfers.transferAll([leg, { ...leg, to: 'a' }]), /legs\[1\]\.to/],
    [
      'a hole among the legs',
      () => transfers.transferAll(Object.assign([], { 1: leg })),
      /legs\[0\] must be/,
    ],
    ['no log', () => transfers.transfer(leg, { audit: {} as never }), /audit\.log/],
    [
      'a balance as log',
      () => transfers.transfer(leg, { audit: { log: 'b' } }),
      /audit\.log must be another key/,
    ],
    [
      'maxEntries 0',
      () => transfers.transfer(leg, { audit: { log: 'l', maxEntries: 0 } }),
      /audit\.maxEntries/,
    ],
    ['timeoutMs 0', () => transfers.transfer(leg, { timeoutMs: 0 }), /options\.timeoutMs/],
  ])('[ARG-1] refuses %s before any command', async (_, call, message) => {
    const counts = await countCommands(redis.client, async () => {
      const error = await Promise.resolve()
        .then(call as () => Promise<unknown>)
        .catch((e: unknown) => e);
      expect(error).toBeInstanceOf(InvalidArgumentError);
      expect((error as Error).message).toMatch(message);
    });
    expect(counts).toEqual({});
  });

  it('[TR-7] logs keys as their caller writes them, without the client’s key prefix', async () => {
    const prefixed = await boot({
      connection: { host: '127.0.0.1', port: redis.server.port, keyPrefix: 'é:' },
    });

    await redis.client.set('é:a', 10);
    await prefixed.get(TransferService).transfer(leg, { audit: { log: 'log' } });
    expect(await balances('é:a', 'é:b')).toEqual(['9', '1']);
    expect(await entries('é:log')).toMatchObject([{ from: 'a', to: 'b' }]);
  });
});

describe('TransferService on a Cluster', () => {
  it('[TR-9] moves within any slot, and refuses keys of several slots before any command', async () => {
    const cluster = await startCluster({ replicasPerMaster: 0 });
    const app = await Test.createTestingModule({
      imports: [
        AtomicRedisModule.forRoot({
          connection: { nodes: cluster.nodes.map(({ host, port }) => ({ host, port })) },
          namespace: 'atomic:',
        }),
      ],
    }).compile();
    const client = cluster.connect();
    try {
      await app.init();
      const transfers = app.get(TransferService);
      for (const tag of ['1', '2', '3', 'x', 'y', 'z']) {
        await client.set(`{${tag}}a`, 10);
        const moved = await transfers.transfer(
          { from: `{${tag}}a`, to: `{${tag}}b`, amount: 4 },
          { audit: { log: `{${tag}}log` } },
        );
        expect(moved).toEqual({ from: 6, to: 4 });
        expect(await client.xlen(`{${tag}}log`)).toBe(1);
      }
      const crossing = transfers.transfer(
        { from: '{1}a', to: '{1}b', amount: 1 },
        { audit: { log: '{2}log' } },
      );
      await expect(crossing).rejects.toMatchObject({
        constructor: CrossSlotError,
        keys: ['{1}a', '{1}b', '{2}log'],
      });
    } finally {
      client.disconnect();
      await app.close();
      await cluster.stop();
    }
  });
});
