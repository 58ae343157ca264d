import {
  BalanceOverflowError,
  InexactResultError,
  InsufficientFundsError,
  InvalidArgumentError,
  NotAnIntegerError,
  NotReplicatedError,
  RedisReplyError,
  TransactionMisuseError,
  TransactionService,
  TransferPendingError,
  TransferService,
} from 'nestjs-atomic-redis';
import { SERVERS, useRedisOrCluster } from '../../support/redis-or-cluster.js';
import { countCommands } from '../../support/command-stats.js';
import { hookSteps, left } from './support.js';

const MAX = 2n ** 63n - 1n;

describe.each(SERVERS)('transfers across slots on %s', (kind) => {
  const env = useRedisOrCluster(kind);
  const transfers = () => env.app.get(TransferService);
  const balances = async (...keys: string[]) =>
    await Promise.all(keys.map(async (key) => await env.client.get(key)));

  it('[TR-12] moves between any two slots, returns both balances, and leaves only a decision that expires', async () => {
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

  it('[TR-12] refuses what would leave less than the minimum, and notes nothing', async () => {
    await env.client.set('a', 10);
    const transfer = { from: 'a', to: 'b', amount: 8, minimum: 3 };
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
    expect(await transfers().acrossSlots({ ...transfer, minimum: -5, amount: 15 })).toMatchObject({
      from: -5,
      to: 15,
    });
  });

  it('[TR-13] gives the amount back when the target cannot take it, and says why', async () => {
    const refused: [target: string, amount: number | bigint, error: object][] = [
      [String(MAX), 1n, { constructor: BalanceOverflowError, key: 'b', amount: 1n }],
      [String(2n ** 53n - 5n), 5, { constructor: InexactResultError, key: 'b' }],
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

  it('[TR-13] is exact over 64 bits', async () => {
    await env.client.set('a', String(MAX));
    expect(await transfers().acrossSlots({ from: 'a', to: 'b', amount: MAX - 1n })).toMatchObject({
      from: 1n,
      to: MAX - 1n,
    });
    await env.client.set('a', String(2n ** 53n + 10n));
    await expect(transfers().acrossSlots({ from: 'a', to: 'b', amount: 1 })).rejects.toMatchObject({
      constructor: InexactResultError,
      key: 'a',
    });
    expect(await balances('a')).toEqual([String(2n ** 53n + 10n)]);
  });

  it('[TR-13] stays open while the amount can be given back to nobody, and is given back once it can', async () => {
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
});
