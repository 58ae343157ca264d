import type { TestingModule } from '@nestjs/testing';
import { fc } from '../support/property.js';
import {
  PartialCommitError,
  RedisReplyError,
  TransactionService,
  type Transaction,
  type TransactionOptions,
} from 'nestjs-atomic-redis';
import { GroupCommit } from '../../lib/transactions/group-commit.js';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { increment } from './increment.js';

describe('transactions of one process that wait for the same key', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestingModule;
  let transactions: TransactionService;

  beforeAll(async () => {
    app = await boot({ connection: redis.server.url });
    transactions = app.get(TransactionService);
    // Opens the connection, or the first turn would be given up for taking so long.
    await transactions.run(['k'], (tx) => void tx.write.incr('k'));
  });

  class InsufficientFunds extends Error {}
  const withdraw = async (tx: Transaction): Promise<number> => {
    const balance = Number(await tx.read.get('k')) - 10;
    if (balance < 0) throw new InsufficientFunds();
    tx.write.set('k', balance);
    tx.write.rpush('history', -10);
    return balance;
  };

  const times = <T>(count: number, make: (i: number) => Promise<T>): Promise<T>[] =>
    Array.from({ length: count }, (_, i) => make(i));

  /**
   * The first of them to have the turn keeps it until `meanwhile` is done, so that the others wait;
   * its key is then changed already, or not.
   */
  const behind = async <T>(
    meanwhile: () => Promise<unknown>,
    others: readonly (() => Promise<T>)[],
  ): Promise<PromiseSettledResult<T>[]> => {
    let first = true;
    const leading = transactions.run(['k'], async (tx) => {
      const value = Number(await tx.read.get('k'));
      if (first) await meanwhile();
      first = false;
      tx.write.set('k', value);
    });
    const [, ...results] = await Promise.allSettled([leading, ...others.map((other) => other())]);
    return results;
  };

  it('[TX-15] are committed by one EXEC, each on the writes of its predecessors', async () => {
    await redis.client.set('k', 0);
    const results: number[] = [];
    const counts = await countCommands(redis.client, async () => {
      results.push(...(await Promise.all(times(64, () => transactions.run(['k'], increment)))));
    });
    expect(results.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 64 }, (_, i) => i + 1));
    expect(await redis.client.get('k')).toBe('64');
    // The others wait from the first one's WATCH on. A turn is given up when it takes long, as on a
    // machine that stalls.
    expect(counts.exec).toBeLessThan(5);
    expect(counts.get).toBeLessThan(10);
  });

  it('[TX-15] stay exact with a thousand of them at once', async () => {
    await Promise.all(times(1_000, () => transactions.run(['k'], increment)));
    expect(await redis.client.get('k')).toBe('1000');
  });

  it('[TX-15] each get the replies to their own writes', async () => {
    const replies: unknown[][] = [];
    await Promise.all(
      times(5, (i) =>
        transactions.run(['k'], (tx) => void [tx.write.rpush('list', i), tx.write.incr('k')], {
          onReplies: (all) => (replies[i] = [...(all ?? [])]),
        }),
      ),
    );
    expect(replies.toSorted(([a], [b]) => Number(a) - Number(b))).toEqual([
      [1, 1],
      [2, 2],
      [3, 3],
      [4, 4],
      [5, 5],
    ]);
  });

  it('[TX-15] throw the errors of their callbacks, and none of their writes are made', async () => {
    await redis.client.set('k', 35);
    const results = await Promise.allSettled(times(6, () => transactions.run(['k'], withdraw)));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    for (const result of results)
      if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(InsufficientFunds);
    expect(await redis.client.get('k')).toBe('5');
    expect(await redis.client.lrange('history', 0, -1)).toEqual(['-10', '-10', '-10']);
  });

  it('[TX-15] drop the writes that a callback had queued before it threw', async () => {
    const mine = new Error('after all');
    const results = await Promise.allSettled(
      times(5, (i) =>
        transactions.run(['k'], async (tx) => {
          await increment(tx);
          if (i % 2) throw mine;
        }),
      ),
    );
    for (const [i, result] of results.entries())
      expect(result).toMatchObject(i % 2 ? { reason: mine } : { status: 'fulfilled' });
    expect(await redis.client.get('k')).toBe('3');
  });

  it('[TX-15] run again together when their key was changed, including those that threw or only read', async () => {
    await redis.client.set('k', 0);
    const read = (): Promise<unknown> => transactions.run(['k'], (tx) => tx.read.get('k'));
    const results = await behind(
      () => redis.client.set('k', 100),
      [read, () => transactions.run(['k'], withdraw), () => transactions.run(['k'], increment)],
    );
    // Their first read, 0, was never committed behind the other's 100.
    expect(results).toEqual([
      { status: 'fulfilled', value: expect.stringMatching(/^(100|90|101|91)$/) as unknown },
      { status: 'fulfilled', value: expect.any(Number) as unknown },
      { status: 'fulfilled', value: expect.any(Number) as unknown },
    ]);
    expect(await redis.client.get('k')).toBe('91');
  });

  it('[TX-15] get only refusals of their own commands', async () => {
    await redis.client.set('k', 1);
    const wrong = (): Promise<void> =>
      transactions.run(['k'], async (tx) => {
        await tx.read.get('k');
        (tx.write.set as (...args: unknown[]) => unknown)('k');
      });
    const results = await Promise.allSettled<unknown>([
      transactions.run(['k'], increment),
      transactions.run(['k'], increment),
      wrong(),
      transactions.run(['k'], increment),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
    expect((results[2] as PromiseRejectedResult).reason).toBeInstanceOf(RedisReplyError);
    expect(await redis.client.get('k')).toBe('4');
  });

  it('[TX-15] get only failures of their own commands inside EXEC', async () => {
    await redis.client.set('text', 'abc');
    const partial = (): Promise<void> =>
      transactions.run(['k'], async (tx) => {
        await tx.read.get('k');
        tx.write.set('k', 7);
        tx.write.incr('text');
      });
    const results = await Promise.allSettled<unknown>([
      transactions.run(['k'], increment),
      partial(),
      transactions.run(['k'], increment),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    const { reason } = results[1] as PromiseRejectedResult;
    expect(reason).toBeInstanceOf(PartialCommitError);
    expect(reason).toMatchObject({ index: 1, command: 'incr', replies: ['OK', expect.any(Error)] });
  });

  it('[TX-15] use an EXEC of their own for reads that the group cannot answer', async () => {
    const append = async (tx: Transaction): Promise<number> => {
      const length = await tx.read.strlen('k');
      tx.write.append('k', 'x');
      return length;
    };
    const mixed = await Promise.all(
      times(20, (i) => transactions.run<unknown>(['k'], i % 2 ? append : (tx) => tx.write.set('k', ''))),
    );
    expect(mixed).toHaveLength(20);
    await redis.client.set('k', '');
    const lengths = await Promise.all(times(20, () => transactions.run(['k'], append)));
    // On a busy machine one may give up its turn, and come later.
    expect(lengths.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i));
  });

  it('[TX-15] watch other keys only on a connection of their own, and their own key without another command', async () => {
    const counts = await countCommands(redis.client, () =>
      Promise.all([
        transactions.run(['k'], increment),
        transactions.run(['k'], async (tx) => {
          await tx.watch('k');
          return await increment(tx);
        }),
        transactions.run(['k'], async (tx) => {
          await tx.watch('other');
          tx.write.incr('other');
        }),
      ]),
    );
    expect(counts.watch).toBeGreaterThanOrEqual(3);
    expect(counts.watch).toBe(counts.exec! + 1);
    expect(await redis.client.mget('k', 'other')).toEqual(['2', '1']);
  });

  it('[TX-15] do not wait for a slow callback', async () => {
    await redis.client.set('k', 0);
    let goOn = (): void => undefined;
    const gate = new Promise<void>((resolve) => (goOn = resolve));
    const quick = times(5, () => transactions.run(['k'], increment));
    const slow = transactions.run(['k'], async (tx) => {
      const next = Number(await tx.read.get('k')) + 1;
      await gate;
      tx.write.set('k', next);
    });
    const late = times(5, () => transactions.run(['k'], increment));
    await Promise.all(quick);
    await Promise.all(late);
    goOn();
    await slow;
    expect(await redis.client.get('k')).toBe('11');
  });

  it('[TX-15] are not repeated needlessly when their callbacks are slow', async () => {
    let runs = 0;
    const pausing = async (tx: Transaction): Promise<void> => {
      runs++;
      const next = Number(await tx.read.get('k')) + 1;
      await new Promise((resolve) => setImmediate(resolve));
      tx.write.set('k', next);
    };
    await Promise.all(times(40, () => transactions.run(['k'], pausing)));
    expect(await redis.client.get('k')).toBe('40');
    // One finds out for all of them; others run again only where a machine stalls and a turn is
    // given up.
    expect(runs).toBeLessThan(60);
  });

  it('[TX-15] are committed without an aborted member, and without anything derived from its writes', async () => {
    await redis.client.set('k', 0);
    const reason = new Error('enough');
    const abort = new AbortController();
    const run = (options: TransactionOptions = {}): Promise<number> =>
      transactions.run(['k'], increment, options);
    const results = await Promise.allSettled([
      run(),
      run(),
      run({ signal: abort.signal }),
      transactions.run(['k'], async (tx) => {
        const value = await increment(tx);
        abort.abort(reason);
        return value;
      }),
      run(),
    ]);
    expect(results[2]).toEqual({ status: 'rejected', reason });
    const values = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    expect(values.toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4]);
    expect(await redis.client.get('k')).toBe('4');
  });

  it('[TX-15] are committed alone if they write much', async () => {
    const megabyte = 'x'.repeat(1_024 * 1_024);
    const counts = await countCommands(redis.client, () =>
      Promise.all(
        times(8, (i) => transactions.run(['k'], (tx) => void tx.write.set('k', `${i}${megabyte}`))),
      ),
    );
    expect(counts.exec).toBeGreaterThanOrEqual(8);
  });

  it('[TX-15] rely on no marker that was set for a shorter time-out than theirs', async () => {
    const results = await Promise.all(
      times(20, (i) => transactions.run(['k'], increment, { timeoutMs: i % 2 ? 600_000 : 10_000 })),
    );
    expect(new Set(results).size).toBe(20);
    const [marker] = await redis.client.keys('atomic:transaction:*');
    expect(await redis.client.pttl(marker!)).toBeGreaterThan(600_000);
  });

  it('[TX-15] can be joined, and can have other keys too', async () => {
    await Promise.all(
      times(20, (i) =>
        transactions.run(i % 2 ? ['k'] : ['k', 'other'], async (tx) => {
          await transactions.run(['k'], increment);
          tx.write.incr('sum');
        }),
      ),
    );
    expect(await redis.client.mget('k', 'sum')).toEqual(['20', '20']);
  });

  it('[TX-15] never read another value than Redis would return', async () => {
    const keys = fc.constantFrom('a', 'b', 'c', '\ud800', '\ufffd', '5');
    // The unit 'binary' takes two seconds to list all of Unicode, for values to shrink from.
    const character = fc.integer({ min: 0, max: 0x10_ffff }).map((code) => String.fromCodePoint(code));
    const value = fc.oneof(
      keys,
      fc.string({ unit: character }),
      fc.integer(),
      fc.constantFrom(-0, 0.1, 1e-7, 1e21, 5n),
    );
    const command = fc.oneof(
      { weight: 4, arbitrary: fc.record({ name: fc.constant('set'), args: fc.tuple(keys, value) }) },
      fc.record({
        name: fc.constant('set'),
        args: fc.tuple(
          keys.map((k) => Buffer.from(k)),
          value,
        ),
      }),
      fc.record({ name: fc.constant('set'), args: fc.tuple(keys, value, fc.constantFrom('NX', 'XX')) }),
      fc.record({
        name: fc.constant('set'),
        args: fc.tuple(keys, fc.tuple(value, fc.constantFrom('NX', 'XX'))),
      }),
      fc.record({ name: fc.constantFrom('append', 'rename', 'rpush', 'getset'), args: fc.tuple(keys, keys) }),
      fc.record({ name: fc.constantFrom('del', 'unlink', 'incr', 'getdel'), args: fc.tuple(keys) }),
      fc.record({
        name: fc.constant('mset'),
        args: fc.tuple(fc.dictionary(keys, fc.string(), { minKeys: 1 })),
      }),
      fc.record({ name: fc.constant('mset'), args: fc.tuple(fc.tuple(keys, keys)) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(command, { maxLength: 8 }), async (commands) => {
        await redis.client.flushall();
        const group = new GroupCommit(commands, 1_000, Infinity);
        const multi = redis.client.multi();
        for (const { name, args } of commands)
          (multi as unknown as Record<string, (...a: unknown[]) => void>)[name]!(...args);
        await multi.exec();
        for (const key of ['a', 'b', 'c', '\ud800', '\ufffd', '5']) {
          const told = group.answer('get', [key]);
          // Bytes that are no text have no string to compare.
          const real = await redis.client.get(key).catch(() => undefined);
          expect([undefined, real]).toContain(told);
        }
      }),
      { numRuns: 500 },
    );
  });
});
