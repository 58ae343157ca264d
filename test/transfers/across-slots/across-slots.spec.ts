import {
  BalanceOverflowError,
  UnsafeIntegerError,
  InsufficientFundsError,
  InvalidArgumentError,
  NotAnIntegerError,
  NotReplicatedError,
  RedisReplyError,
  IllegalTransactionStateError,
  TransferPendingError,
  TransferService,
} from 'nestjs-atomic-redis';
import { startRedisServer } from 'nestjs-atomic-redis/testing';
import { SERVERS, useTarget } from '../../support/target.js';
import { countCommands } from '../../support/command-stats.js';
import { waitFor } from '../../support/wait-for.js';
import { inTransaction } from '../../support/in-transaction.js';
import { hookSteps, left, type Step } from './support.js';

const MAX = 2n ** 63n - 1n;

describe.each(SERVERS)('transfers across slots on %s', (kind) => {
  const env = useTarget(kind);
  const transfers = () => env.app.get(TransferService);
  const balances = async (...keys: string[]) =>
    await Promise.all(keys.map(async (key) => await env.client.get(key)));

  it('[TR-12] move between any two slots, return both balances, and leave only a decision that expires', async () => {
    for (const tag of ['1', '2', '3', 'x', 'y', 'z']) {
      await env.client.set(`{${tag}}a`, 100);
      const moved = await transfers().acrossSlots({
        from: `{${tag}}a`,
        to: `{${tag}${tag}}b`,
        amount: 30,
      });
      expect(moved).toEqual({
        id: expect.stringMatching(/^\d{13}-[0-9a-f]{32}$/) as string,
        from: 70,
        to: 30,
      });
      expect(await balances(`{${tag}}a`, `{${tag}${tag}}b`)).toEqual(['70', '30']);
    }
    expect(await transfers().pending()).toEqual({ transfers: [] });
    const { decisions, others } = await left(env);
    expect(others).toEqual([]);
    expect(decisions).toHaveLength(6);
    for (const { ttlMs } of decisions) {
      expect(ttlMs).toBeGreaterThan(120_000);
      expect(ttlMs).toBeLessThanOrEqual(3_600_000);
    }
  });

  it('[TR-12] refuse a transfer that would leave less than the minimum, and record nothing', async () => {
    await env.client.set('a', 10);
    const transfer = { from: 'a', to: 'b', amount: 8, min: 3 };
    await expect(transfers().acrossSlots(transfer)).rejects.toMatchObject({
      constructor: InsufficientFundsError,
      key: 'a',
      balance: 10,
      minimum: 3,
      amount: 8,
      outcome: 'not-applied',
    });
    expect(await balances('a', 'b')).toEqual(['10', null]);
    expect(await left(env)).toEqual({ decisions: [], others: [] });
    expect(await transfers().acrossSlots({ ...transfer, min: -5, amount: 15 })).toMatchObject({
      from: -5,
      to: 15,
    });
  });

  it('[TR-13] return the amount when the target cannot take it, and give the reason', async () => {
    const refused: [target: string, amount: number | bigint, error: object][] = [
      [String(MAX), 1n, { constructor: BalanceOverflowError, key: 'b', amount: 1n }],
      [String(2n ** 53n - 5n), 5, { constructor: UnsafeIntegerError, key: 'b' }],
      ['garbage', 5, { constructor: NotAnIntegerError, key: 'b', found: 'other-string' }],
    ];
    for (const [target, amount, error] of refused) {
      await env.client.set('a', 10, 'PX', 60_000);
      await env.client.set('b', target);
      await expect(transfers().acrossSlots({ from: 'a', to: 'b', amount })).rejects.toMatchObject({
        ...error,
        outcome: 'not-applied',
      });
      expect(await balances('a', 'b')).toEqual(['10', target]);
      expect(await env.client.pttl('a')).toBeGreaterThan(30_000);
    }
    await env.client.del('b');
    await env.client.rpush('b', 'x');
    await expect(transfers().acrossSlots({ from: 'a', to: 'b', amount: 5 })).rejects.toMatchObject({
      constructor: NotAnIntegerError,
      key: 'b',
      found: 'other-type',
    });
    await expect(transfers().acrossSlots({ from: 'b', to: 'a', amount: 5 })).rejects.toMatchObject({
      constructor: NotAnIntegerError,
      key: 'b',
      found: 'other-type',
    });
    expect(await balances('a')).toEqual(['10']);
    const { decisions, others } = await left(env);
    expect(others).toEqual([]);
    expect(decisions.filter(({ ttlMs }) => ttlMs < 0)).toEqual([]);
  });

  it('[TR-13] are exact over 64 bits', async () => {
    await env.client.set('a', String(MAX));
    expect(await transfers().acrossSlots({ from: 'a', to: 'b', amount: MAX - 1n })).toMatchObject({
      from: 1n,
      to: MAX - 1n,
    });
    await env.client.set('a', String(2n ** 53n + 10n));
    await expect(transfers().acrossSlots({ from: 'a', to: 'b', amount: 1 })).rejects.toMatchObject({
      constructor: UnsafeIntegerError,
      key: 'a',
    });
    expect(await balances('a')).toEqual([String(2n ** 53n + 10n)]);
  });

  it('[TR-13] stay pending while the amount cannot be returned either, and return it once possible', async () => {
    await env.client.set('a', 10);
    await env.client.set('b', 'garbage');
    const other = await env.another();
    hookSteps(other, async (step, run) => {
      if (step === 'close') await env.client.set('a', 'garbage');
      return await run();
    });
    const error = (await other
      .get(TransferService)
      .acrossSlots({ from: 'a', to: 'b', amount: 4, reference: 'p-1' })
      .catch((e: unknown) => e)) as TransferPendingError;
    await other.close();
    expect(error).toBeInstanceOf(TransferPendingError);
    expect(error).toMatchObject({
      transfer: { from: 'a', to: 'b', amount: 4, reference: 'p-1' },
      outcome: 'unknown',
      retryable: false,
      cause: { constructor: NotAnIntegerError, key: 'a' },
    });
    expect((await transfers().pending()).transfers).toMatchObject([
      { id: error.transfer.id, from: 'a', to: 'b', amount: 4, reference: 'p-1', state: 'open' },
    ]);
    expect(await transfers().recover({ minAgeMs: 0 })).toMatchObject({ failed: 1, refunded: 0 });
    await env.client.set('a', 1);
    expect(await transfers().recover({ minAgeMs: 0 })).toMatchObject({ failed: 0, refunded: 1 });
    expect(await balances('a', 'b')).toEqual(['5', 'garbage']);
  });

  it('[TR-12] take five round trips, and can be listed by slot after a crash', async () => {
    if (kind === 'a Cluster') return;
    await env.client.set('a', 10);
    const transfer = { from: 'a', to: 'b', amount: 1 };
    await transfers().acrossSlots(transfer);
    const moving = await countCommands(env.client, () => transfers().acrossSlots(transfer));
    expect(moving['evalsha']).toBe(5);
    expect(moving['eval']).toBeUndefined();
    const listing = await countCommands(env.client, () => transfers().pending({ from: 'a' }));
    expect(listing['evalsha_ro']).toBe(1);
  });

  it('[TR-12] are refused inside a transaction by default', async () => {
    await env.client.set('a', 10);
    const inside = (propagation?: 'outside') =>
      inTransaction(() =>
        transfers().acrossSlots({ from: 'a', to: 'b', amount: 1 }, propagation && { propagation }),
      );
    await expect(inside()).rejects.toThrow(IllegalTransactionStateError);
    const recovering = inTransaction(() => transfers().recover());
    await expect(recovering).rejects.toThrow(IllegalTransactionStateError);
    // The transaction may run its work again, and each run is a transfer of its own.
    const { from, to } = await inside('outside');
    expect(to).toBeGreaterThanOrEqual(1);
    expect(from + to).toBe(10);
  });

  const transfer = { from: 'a', to: 'b', amount: 1 };
  it.each<[what: string, call: () => Promise<unknown>, message: RegExp]>([
    [
      'the same key twice',
      () => transfers().acrossSlots({ ...transfer, to: 'a' }),
      /transfer\.to must be another/,
    ],
    [
      'an amount of 0',
      () => transfers().acrossSlots({ ...transfer, amount: 0 }),
      /transfer\.amount must be an integer above 0/,
    ],
    ['no amount', () => transfers().acrossSlots({ from: 'a', to: 'b' } as never), /transfer\.amount/],
    ['an empty key', () => transfers().acrossSlots({ ...transfer, from: '' }), /transfer\.from/],
    [
      'an empty reference',
      () => transfers().acrossSlots({ ...transfer, reference: '' }),
      /transfer\.reference/,
    ],
    [
      'deduplicate: false',
      () => transfers().acrossSlots(transfer, { deduplicate: false } as never),
      /options\.deduplicate must be absent/,
    ],
    ['a limit of 0', () => transfers().pending({ limit: 0 }), /options\.limit/],
    ['a limit above 1,000', () => transfers().pending({ limit: 1_001 }), /options\.limit/],
    ['a wrong cursor', () => transfers().pending({ cursor: 'x' }), /options\.cursor must be the cursor/],
    ['a slot that does not exist', () => transfers().pending({ cursor: `16384:1-a` }), /options\.cursor/],
    ["another slot's cursor", () => transfers().pending({ from: 'a', cursor: '1:1-a' }), /options\.cursor/],
    ['a negative age', () => transfers().recover({ minAgeMs: -1 }), /options\.minAgeMs/],
    ['timeoutMs 0', () => transfers().recover({ timeoutMs: 0 }), /options\.timeoutMs/],
  ])('[ARG-1] refuse %s before any command', async (_, call, message) => {
    const error = await Promise.resolve()
      .then(call)
      .catch((e: unknown) => e);
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect((error as Error).message).toMatch(message);
  });
});

describe('transfers across slots', () => {
  const env = useTarget('one server');
  const balances = async () => await env.client.mget('a', 'b', 'full');

  beforeEach(() => env.client.mset('a', 100, 'b', 0, 'full', String(Number.MAX_SAFE_INTEGER)));

  /** A transfer by an application of its own, with `hook` ahead of each of its steps. */
  const transferWith = async (
    before: (step: Step) => unknown,
    to: string,
    options?: Parameters<TransferService['acrossSlots']>[1],
  ): Promise<unknown> => {
    const app = await env.another();
    hookSteps(app, async (step, run) => {
      await before(step);
      return await run();
    });
    try {
      return await app.get(TransferService).acrossSlots({ from: 'a', to, amount: 30 }, options);
    } catch (error) {
      return error;
    } finally {
      await app.close();
    }
  };
  const recover = async (options?: Parameters<TransferService['recover']>[0]) =>
    await env.app.get(TransferService).recover({ from: 'a', minAgeMs: 0, ...options });

  it('[TR-16] complete each step or nothing when memory is full, and recovery continues from there', async () => {
    for (const full of ['begin', 'decide', 'close'] as const) {
      for (const to of ['b', 'full']) {
        await env.client.mset('a', 100, 'b', 0);
        const error = await transferWith(async (step) => {
          if (step === full) await env.client.config('SET', 'maxmemory', 1);
        }, to);
        await env.client.config('SET', 'maxmemory', 0);
        const oom = { constructor: RedisReplyError, reply: 'OOM', outcome: 'not-applied' };
        if (full === 'begin') expect(error).toMatchObject(oom);
        else if (full === 'decide' || to === 'full')
          expect(error).toMatchObject({ constructor: TransferPendingError, cause: oom });
        else expect(error).toMatchObject({ from: 70, to: 30 });
        const taken = full === 'begin' ? 0 : 30;
        const paidIn = full === 'close' && to === 'b' ? 30 : 0;
        expect((await balances()).slice(0, 2)).toEqual([String(100 - taken), String(paidIn)]);
        expect(await recover()).toMatchObject({ failed: 0 });
        const moved = full !== 'begin' && to === 'b' ? 30 : 0;
        expect(await balances()).toEqual([
          String(100 - moved),
          String(moved),
          String(Number.MAX_SAFE_INTEGER),
        ]);
      }
    }
    expect((await left(env)).others).toEqual([]);
  });

  it('[TR-18] repeat a closing that a failover loses, without moving an amount, whatever happened since', async () => {
    for (const to of ['b', 'full']) {
      await env.client.mset('a', 100, 'b', 0);
      let open: Record<string, string> = {};
      await transferWith(async (step) => {
        const [intents] = await env.client.keys('atomic:transfers:*:intents');
        if (step === 'close')
          open = { ...(await env.client.hgetall(intents!)), from: (await env.client.get('a'))! };
        if (step !== 'forget') return;
        const { from, ...intent } = open;
        await env.client.multi().hset(intents!, intent).set('a', from!).exec();
      }, to);
      expect((await env.app.get(TransferService).pending({ from: 'a' })).transfers).toMatchObject([
        { to, state: 'open' },
      ]);
      expect(await recover()).toMatchObject({ failed: 0 });
      expect((await balances()).slice(0, 2)).toEqual(to === 'b' ? ['70', '30'] : ['100', '0']);
    }
    expect((await left(env)).others).toEqual([]);
  });

  it('[TR-18] with durability, continue from a step only when replicas have it', async () => {
    const durability = { replicas: 1, timeoutMs: 50 };
    const steps: Step[] = [];
    expect(await transferWith((step) => steps.push(step), 'b', { durability })).toMatchObject({
      constructor: TransferPendingError,
      transfer: { id: expect.any(String) as string, from: 'a', to: 'b', amount: 30 },
      cause: { constructor: NotReplicatedError },
    });
    expect(steps).toEqual(['begin']);
    expect(await balances()).toEqual(['70', '0', String(Number.MAX_SAFE_INTEGER)]);
    expect(await recover({ durability })).toMatchObject({ credited: 0, failed: 1 });
    expect(await balances()).toEqual(['70', '0', String(Number.MAX_SAFE_INTEGER)]);
    expect(await recover()).toMatchObject({ credited: 1, failed: 0 });
    expect(await balances()).toEqual(['70', '30', String(Number.MAX_SAFE_INTEGER)]);
  });

  it('[TR-18] report the target’s decision when its replicas did not have it in time', async () => {
    for (const to of ['b', 'full']) {
      await env.client.mset('a', 100, 'b', 0);
      const { host, port } = env.client.options as { host: string; port: number };
      const replica = await startRedisServer({
        binary: process.env['TEST_REDIS_BINARY'],
        args: ['--replicaof', host, String(port)],
      });
      await waitFor('the replica is there', async () =>
        (await env.client.info('replication')).includes('state=online'),
      );
      // The replica confirms the step before within this time, on a busy machine too.
      const durability = { replicas: 1, timeoutMs: 3_000 };
      const result = await transferWith((step) => step === 'decide' && replica.stop(), to, { durability });
      if (to === 'b')
        expect(result).toMatchObject({ constructor: NotReplicatedError, result: { from: 70, to: 30 } });
      else expect(result).toBeInstanceOf(TransferPendingError);
      expect((await env.app.get(TransferService).pending({ from: 'a' })).transfers).toMatchObject([
        { state: 'open' },
      ]);
      expect(await recover()).toMatchObject({ failed: 0 });
      expect((await balances()).slice(0, 2)).toEqual(to === 'b' ? ['70', '30'] : ['100', '0']);
    }
  });
});
