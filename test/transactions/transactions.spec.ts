import { EventEmitter, once } from 'node:events';
import { Injectable } from '@nestjs/common';
import type { TestingModule } from '@nestjs/testing';
import {
  CounterService,
  IdempotencyService,
  InjectTransaction,
  InvalidArgumentError,
  OptimisticRetry,
  PartialCommitError,
  Propagation,
  RedisReplyError,
  Transaction,
  TransactionConflictError,
  IllegalTransactionStateError,
  TransactionService,
  TransactionTimeoutError,
  type QueuedWrite,
} from 'nestjs-atomic-redis';
import { Redis } from 'ioredis';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';

@Injectable()
class Accounts {
  attempts = 0;

  constructor(@InjectTransaction() private readonly tx: Transaction) {}

  @OptimisticRetry({ watch: (id: string) => `account:{${id}}` })
  async deposit(id: string, amount: number): Promise<number> {
    this.attempts++;
    const balance = Number(await this.tx.read.get(`account:{${id}}`)) + amount;
    this.tx.write.set(`account:{${id}}`, balance);
    return balance;
  }

  outside(): unknown {
    return this.tx.read;
  }
}

describe('TransactionService', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestingModule;
  let transactions: TransactionService;
  /** Stands for another process: its own registration, so no turn-taking with the first. */
  let other: TestingModule;

  const start = () =>
    boot({ connection: redis.server.url, transactions: { maxConnections: 5 } }, { providers: [Accounts] });

  beforeAll(async () => {
    [app, other] = await Promise.all([start(), start()]);
    transactions = app.get(TransactionService);
  });

  const increment = (service: TransactionService, key: string): Promise<number> =>
    service.run([key], async (tx) => {
      const next = Number(await tx.read.get(key)) + 1;
      tx.write.set(key, next);
      return next;
    });

  it('[TX-1] loses no update of 64 concurrent ones while other code runs MULTI/EXEC on the shared client', async () => {
    const shared = new Redis(redis.server.url);
    let going = true;
    const unrelated = (async () => {
      for (let n = 0; going; n++) {
        const replies = await shared.multi().set('unrelated', n).get('unrelated').exec();
        expect(replies).toEqual([
          [null, 'OK'],
          [null, String(n)],
        ]);
      }
    })();
    const results = await Promise.all(
      Array.from({ length: 64 }, (_, i) =>
        increment(i % 2 ? transactions : other.get(TransactionService), 'counter'),
      ),
    );
    going = false;
    await unrelated;
    shared.disconnect();
    expect(await redis.client.get('counter')).toBe('64');
    expect(new Set(results).size).toBe(64);
  });

  it('[TX-1] keeps callers of one process from aborting each other', async () => {
    const counts = await countCommands(redis.client, () =>
      Promise.all(Array.from({ length: 200 }, () => increment(transactions, 'counter'))),
    );
    expect(await redis.client.get('counter')).toBe('200');
    // A turn is given up when it takes long, as on a machine that stalls. Without turns there are
    // thousands.
    expect(counts.exec).toBeLessThan(220);
  });

  it('[TX-2] sends the WATCH of the next turn behind the EXEC of the previous one, in one write', async () => {
    const readsOf = async (): Promise<number> =>
      Number(/total_reads_processed:(\d+)/.exec(await redis.client.info('stats'))![1]);
    await increment(transactions, 'counter');
    const before = await readsOf();
    await Promise.all(Array.from({ length: 200 }, () => increment(transactions, 'counter')));
    // 201, where no turn is given up for taking long; one after the other they would take 400.
    expect((await readsOf()) - before).toBeLessThan(300);
    expect(await redis.client.get('counter')).toBe('201');
  });

  it('[TX-2] takes 2 round trips: WATCH with the first read, and MULTI to EXEC', async () => {
    await increment(transactions, 'counter');
    const counts = await countCommands(redis.client, () => increment(transactions, 'counter'));
    // One SET is the caller's, the other marks the commit.
    expect(counts).toEqual({ watch: 1, get: 1, multi: 1, set: 2, exec: 1 });
  });

  it('[TX-3] runs the callback again on new values after a conflict, and counts attempts', async () => {
    const attempts: number[] = [];
    await transactions.run(['k'], async (tx) => {
      attempts.push(tx.attempt);
      const seen = await tx.read.get('k');
      if (tx.attempt === 1) await redis.client.set('k', 'meanwhile');
      tx.write.set('k', `${seen} then this`);
    });
    expect(attempts.length).toBeGreaterThan(1);
    expect(attempts).toEqual(attempts.map((_, i) => i + 1));
    expect(await redis.client.get('k')).toBe('meanwhile then this');
  });

  it('[TX-3] protects keys that are watched during the transaction', async () => {
    await redis.client.set('pointer', 'target');
    let attempts = 0;
    await transactions.run(['pointer'], async (tx) => {
      attempts++;
      const target = (await tx.read.get('pointer'))!;
      await tx.watch(target);
      await tx.read.get(target);
      if (attempts === 1) await redis.client.set('target', 'changed');
      tx.write.set('result', 1);
    });
    expect(attempts).toBeGreaterThan(1);
  });

  it('[TX-3] gives up after maxAttempts, and reports keys, attempts and time', async () => {
    const running = transactions.run(
      ['k'],
      async (tx) => {
        await tx.read.get('k');
        await redis.client.incr('k');
        tx.write.set('k', 'never');
      },
      { maxAttempts: 3 },
    );
    await expect(running).rejects.toThrow(TransactionConflictError);
    await expect(running).rejects.toMatchObject({
      keys: ['k'],
      attempts: 3,
      outcome: 'not-applied',
      retryable: true,
    });
    expect(await redis.client.get('k')).toBe('3');
  });

  it('[TX-4] passes the callback’s own error through, writes nothing, and leaves the connection usable', async () => {
    const mine = new Error('insufficient funds');
    const failing = transactions.run(['k'], async (tx) => {
      await tx.read.get('k');
      tx.write.set('k', 1);
      throw mine;
    });
    await expect(failing).rejects.toBe(mine);
    expect(await redis.client.exists('k')).toBe(0);
    await redis.client.set('k', 5);
    const counts = await countCommands(redis.client, () => increment(transactions, 'other'));
    expect(counts.exec).toBe(1);
  });

  it('[TX-4] returns the callback’s value without EXEC when nothing was queued', async () => {
    const counts = await countCommands(redis.client, () => transactions.run(['k'], (tx) => tx.read.get('k')));
    expect(counts.exec ?? 0).toBe(0);
  });

  it('[TX-5] names the command that failed inside EXEC while the others were applied', async () => {
    await redis.client.set('text', 'abc');
    const running = transactions.run(['text'], (tx) => {
      tx.write.set('a', 1);
      tx.write.incr('text');
      tx.write.set('b', 2);
    });
    await expect(running).rejects.toThrow(PartialCommitError);
    await expect(running).rejects.toMatchObject({
      index: 1,
      command: 'incr',
      outcome: 'applied',
      replies: ['OK', expect.any(Error), 'OK'],
    });
  });

  it('[TX-5] applies nothing when Redis refuses a command at queue time', async () => {
    const running = transactions.run(['k'], (tx) => {
      tx.write.set('k', 1);
      (tx.write.set as (...args: unknown[]) => unknown)('k');
    });
    await expect(running).rejects.toThrow(RedisReplyError);
    // The cause holds Redis's message for each refused command.
    await expect(running).rejects.toMatchObject({
      outcome: 'not-applied',
      cause: { previousErrors: [expect.any(Error)] },
    });
    expect(await redis.client.exists('k')).toBe(0);
  });

  it('[TX-5] passes on the replies of EXEC', async () => {
    const replies: unknown[] = [];
    await transactions.run(['k'], (tx) => void [tx.write.incr('k'), tx.write.rpush('list', 'a', 'b')], {
      onReplies: (all) => replies.push(...(all ?? [])),
    });
    expect(replies).toEqual([1, 2]);
  });

  it('[TX-5] gives each write its reply, with its type', async () => {
    let write: QueuedWrite<number> | undefined;
    let joined: QueuedWrite<string | null> | undefined;
    const got: unknown[] = [];
    await transactions.run(
      ['k'],
      async (tx) => {
        tx.write.set('k', 5);
        write = tx.write.incr('k');
        await transactions.run(['other'], (inner) => void (joined = inner.write.getset('other', 'new')), {
          onReplies: (replies) => got.push(replies?.length, replies?.of(joined!)),
        });
      },
      {
        onReplies: (replies) => {
          const count: number | undefined = replies?.of(write!);
          got.push(count);
        },
      },
    );
    expect(got).toEqual([1, null, 6]);
  });

  it('[TX-6] joins a transaction inside another: one commit, the inner keys watched too', async () => {
    const counts = await countCommands(redis.client, () =>
      transactions.run(['a'], async (outer) => {
        outer.write.set('a', 1);
        await transactions.run(['b'], (inner) => void inner.write.set('b', 2));
      }),
    );
    expect(counts).toMatchObject({ exec: 1, watch: 2 });
    expect(await redis.client.mget('a', 'b')).toEqual(['1', '2']);
  });

  it('[TX-6] finishes 200 transactions on 5 connections', async () => {
    const before = ((await redis.client.client('LIST')) as string)
      .split('\n')
      .filter((line) => line.includes(':transaction')).length;
    await Promise.all(Array.from({ length: 200 }, (_, i) => increment(transactions, `k:${i}`)));
    const list = ((await redis.client.client('LIST')) as string)
      .split('\n')
      .filter((line) => line.includes(':transaction'));
    expect(before).toBeLessThanOrEqual(10);
    expect(list.length).toBeLessThanOrEqual(10);
    expect(await redis.client.exists(...Array.from({ length: 200 }, (_, i) => `k:${i}`))).toBe(200);
  });

  it('[TX-6] drops the writes of a joined transaction that failed, and gives each its own replies', async () => {
    const inner: unknown[] = [];
    const outer: unknown[] = [];
    await transactions.run(
      ['a'],
      async (tx) => {
        tx.write.set('a', 1);
        await transactions.run(['b'], (joined) => void joined.write.incr('b'), {
          onReplies: (replies) => inner.push([...(replies ?? [])]),
        });
        const failing = transactions.run(['c'], (joined) => {
          joined.write.set('c', 'partial');
          throw new Error('inner');
        });
        await expect(failing).rejects.toThrow('inner');
        tx.write.set('d', 1);
      },
      { onReplies: (replies) => outer.push([...(replies ?? [])]) },
    );
    expect(await redis.client.mget('a', 'b', 'c', 'd')).toEqual(['1', '1', null, '1']);
    expect(inner).toEqual([[1]]);
    expect(outer).toEqual([['OK', 1, 'OK']]);
  });

  it('[TX-6] commits a separate transaction inside another with propagation new, even with a single connection', async () => {
    const single = await boot({ connection: redis.server.url, transactions: { maxConnections: 1 } });
    const service = single.get(TransactionService);
    const mine = new Error('the outer one fails');
    const outer = Array.from({ length: 5 }, (_, i) =>
      service.run([`outer:${i}`], async (tx) => {
        tx.write.set(`outer:${i}`, 1);
        await service.run(['inner'], async (inner) => void inner.write.incr('inner'), {
          propagation: Propagation.New,
        });
        throw mine;
      }),
    );
    for (const { status } of await Promise.allSettled(outer)) expect(status).toBe('rejected');
    expect(await redis.client.get('inner')).toBe('5');
    expect(await redis.client.exists('outer:0')).toBe(0);
  });

  it('[TX-6] is a separate transaction when it was started inside one that has ended', async () => {
    let late: Promise<number> | undefined;
    const gate = new EventEmitter();
    await transactions.run(['a'], (tx) => {
      tx.write.set('a', 1);
      late = once(gate, 'open').then(() => increment(transactions, 'b'));
    });
    gate.emit('open');
    await expect(late).resolves.toBe(1);
    expect(await redis.client.mget('a', 'b')).toEqual(['1', '1']);
  });

  it('[TX-7] refuses other operations inside a transaction, which each attempt would repeat, by default', async () => {
    const counters = app.get(CounterService);
    const idempotency = app.get(IdempotencyService);
    const inside = (work: () => Promise<unknown>) => transactions.run(['k'], work);
    await expect(inside(() => counters.add('n', 1))).rejects.toThrow(IllegalTransactionStateError);
    await expect(inside(() => counters.reset('n'))).rejects.toThrow(/propagation: 'outside'/);
    await expect(inside(() => idempotency.run('key', () => 1))).rejects.toThrow(IllegalTransactionStateError);
    await expect(inside(() => other.get(CounterService).add('n', 1))).rejects.toThrow(
      IllegalTransactionStateError,
    );
    expect(await redis.client.keys('*n*')).not.toContain('n');
    await inside(() => counters.get('n'));
    await inside(() => counters.add('n', 1, { propagation: Propagation.Outside }));
    expect(await redis.client.get('n')).toBe('1');
  });

  it('[TX-7] turns misuse into an immediate error', async () => {
    const misuse = (work: (tx: Transaction) => unknown) =>
      expect(transactions.run(['k'], work)).rejects.toThrow(IllegalTransactionStateError);
    // oxlint-disable-next-line typescript/await-thenable -- the mistake itself
    await misuse(async (tx) => await tx.write.set('k', 1));
    await misuse(async (tx) => {
      tx.write.set('k', 1);
      return await tx.read.get('k');
    });
    let escaped: Transaction | undefined;
    await transactions.run(['k'], (tx) => void (escaped = tx));
    expect(() => escaped!.write.set('k', 1)).toThrow(/after its attempt had ended/);
    expect(() => app.get(Accounts).outside()).toThrow(IllegalTransactionStateError);
    expect(await redis.client.exists('k')).toBe(0);
  });

  it('[TX-7] ignores a write that the callback returns', async () => {
    await expect(transactions.run(['k'], (tx) => tx.write.set('k', 1))).resolves.toBeUndefined();
    await expect(transactions.run(['k'], async (tx) => tx.write.set('k', 2))).rejects.toThrow(/onReplies/);
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[TX-8] stops at its deadline and at its caller’s signal, with nothing written', async () => {
    const never = new Promise<void>(() => undefined);
    const slow = transactions.run(['k'], async (tx) => (tx.write.set('k', 1), never), { timeoutMs: 500 });
    await expect(slow).rejects.toThrow(TransactionTimeoutError);
    const reason = new Error('the client went away');
    const abort = new AbortController();
    const aborted = transactions.run(
      ['k'],
      async (tx) => {
        tx.write.set('k', 1);
        abort.abort(reason);
        expect(tx.signal.aborted).toBe(true);
        await never;
      },
      { signal: abort.signal },
    );
    await expect(aborted).rejects.toBe(reason);
    expect(await redis.client.exists('k')).toBe(0);
  });

  it('[TX-9] decorates a method', async () => {
    const accounts = app.get(Accounts);
    const balances = await Promise.all(Array.from({ length: 20 }, () => accounts.deposit('42', 5)));
    expect(Math.max(...balances)).toBe(100);
    expect(await redis.client.get('account:{42}')).toBe('100');
  });

  it.each<[string, () => Promise<unknown>]>([
    ['keys', () => transactions.run([], () => 1)],
    ['keys', () => transactions.run(undefined as never, () => 1)],
    ['keys[1]', () => transactions.run(['a', ''], () => 1)],
    ['keys[0]', () => transactions.run([{} as never], () => 1)],
    ['work', () => transactions.run(['a'], undefined as never)],
    ['options.maxAttempts', () => transactions.run(['a'], () => 1, { maxAttempts: 0 })],
    ['options.timeoutMs', () => transactions.run(['a'], () => 1, { timeoutMs: Number.NaN })],
    ['options.backoff.minMs', () => transactions.run(['a'], () => 1, { backoff: { minMs: -1 } })],
    ['options.retries', () => transactions.run(['a'], () => 1, { retries: 3 } as never)],
    ['options.signal', () => transactions.run(['a'], () => 1, { signal: {} as never })],
  ])('[ARG-1] refuses a wrong %s before any command', async (argument, call) => {
    const counts = await countCommands(redis.client, async () => {
      await expect(call()).rejects.toThrow(InvalidArgumentError);
      await expect(call()).rejects.toMatchObject({ argument });
    });
    expect(counts).toEqual({});
  });

  it.each([undefined, null, {}, Number.NaN, [undefined], () => 1, new Date()])(
    '[ARG-1] refuses %p in a command of a transaction',
    async (value) => {
      const write = transactions.run(['k'], (tx) => void tx.write.set('k', value as never));
      await expect(write).rejects.toThrow(InvalidArgumentError);
      await expect(transactions.run(['k'], (tx) => tx.read.get(value as never))).rejects.toThrow(
        InvalidArgumentError,
      );
      expect(await redis.client.exists('k')).toBe(0);
    },
  );
});
