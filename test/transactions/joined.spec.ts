import { Injectable } from '@nestjs/common';
import type { TestingModule } from '@nestjs/testing';
import {
  InjectTransaction,
  OptimisticRetry,
  PartialCommitError,
  Transaction,
  IllegalTransactionStateError,
  TransactionService,
  type QueuedWrite,
  type TransactionOptions,
} from 'nestjs-atomic-redis';
import { setTimeout as sleep } from 'node:timers/promises';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';

class SoldOut extends Error {}

@Injectable()
class Stock {
  constructor(@InjectTransaction() private readonly tx: Transaction) {}

  /** Takes one piece, after the given number of reads. */
  @OptimisticRetry({ watch: (sku: string) => `stock:${sku}` })
  async take(sku: string, looks = 0): Promise<string> {
    const left = Number(await this.tx.read.get(`stock:${sku}`));
    for (let i = 0; i < looks; i++) await this.tx.read.get('something');
    this.tx.write.set(`stock:${sku}`, left - 1);
    this.tx.write.rpush('taken', sku);
    await this.tx.read.get('something');
    if (left < 1) throw new SoldOut(sku);
    return sku;
  }
}

describe('transactions that join one, side by side', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestingModule;
  let transactions: TransactionService;
  let stock: Stock;

  beforeAll(async () => {
    app = await boot({ connection: redis.server.url }, { providers: [Stock] });
    transactions = app.get(TransactionService);
    stock = app.get(Stock);
  });

  const fill = (): Promise<unknown> => redis.client.mset('stock:tea', 5, 'stock:cup', 0, 'stock:pot', 5);
  const levels = (): Promise<(string | null)[]> => redis.client.mget('stock:tea', 'stock:cup', 'stock:pot');

  it.each([
    [0, 0, 0],
    [0, 3, 6],
    [6, 3, 0],
    [3, 0, 3],
  ])('[TX-6] drop their own writes when they fail, and no others (%d, %d and %d reads)', async (...looks) => {
    await fill();
    const skus = ['tea', 'cup', 'pot'];
    const taken = await transactions.run(['cart'], async (tx) => {
      const results = await Promise.allSettled(skus.map((sku, i) => stock.take(sku, looks[i])));
      const got = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
      tx.write.set('cart', got.join());
      return got;
    });
    expect(taken).toEqual(['tea', 'pot']);
    expect(await levels()).toEqual(['4', '0', '4']);
    expect((await redis.client.lrange('taken', 0, -1)).toSorted()).toEqual(['pot', 'tea']);
  });

  it('[TX-6] are awaited even if the callback around them continues without them', async () => {
    await fill();
    await transactions.run(['cart'], async (tx) => {
      await Promise.all([stock.take('cup'), stock.take('tea', 10)]).catch(() => undefined);
      void stock.take('pot', 20);
      tx.write.set('cart', 'done');
    });
    expect(await levels()).toEqual(['4', '0', '4']);
    expect(await redis.client.get('cart')).toBe('done');
  });

  it('[TX-6] have no part in the writes of a failed transaction around them', async () => {
    await transactions.run(['a'], async (tx) => {
      const failing = transactions.run(['b'], async (outer) => {
        await transactions.run(['c'], (inner) => void inner.write.set('c', 1));
        outer.write.set('b', 1);
        throw new SoldOut();
      });
      await expect(failing).rejects.toThrow(SoldOut);
      tx.write.set('a', 1);
    });
    expect(await redis.client.mget('a', 'b', 'c')).toEqual(['1', null, null]);
  });

  it('[TX-6] get no replies if a transaction around them failed afterwards', async () => {
    const told: string[] = [];
    const onReplies = (who: string) => ({ onReplies: () => void told.push(who) });
    await transactions.run(
      ['outer'],
      async (tx) => {
        const middle = transactions.run(
          ['middle'],
          async () => {
            await transactions.run(['inner'], (inner) => void inner.write.incr('inner'), onReplies('inner'));
            throw new SoldOut();
          },
          onReplies('middle'),
        );
        await expect(middle).rejects.toThrow(SoldOut);
        tx.write.incr('outer');
      },
      onReplies('outer'),
    );
    expect(told).toEqual(['outer']);
    expect(await redis.client.mget('outer', 'inner')).toEqual(['1', null]);
  });

  it('[TX-6] each get the replies to their own writes, at any position', async () => {
    const seen: Record<string, unknown[]> = {};
    const writes: Record<string, QueuedWrite<number>> = {};
    const add = (key: string, count: number): Promise<void> =>
      transactions.run(
        [key],
        async (tx) => {
          for (let i = 0; i < count; i++) {
            writes[key] = tx.write.rpush(key, i);
            await tx.read.get('something');
          }
          if (key === 'failing') throw new SoldOut();
        },
        { onReplies: (replies) => (seen[key] = [...replies!, replies!.of(writes[key]!)]) },
      );
    await transactions.run(
      ['outer'],
      async (tx) => {
        await Promise.allSettled([add('three', 3), add('failing', 2), add('two', 2)]);
        writes['outer'] = tx.write.rpush('outer', 'a', 'b');
      },
      { onReplies: (replies) => (seen['outer'] = [replies!.length, replies!.of(writes['outer']!)]) },
    );
    expect(seen).toEqual({ three: [1, 2, 3, 3], two: [1, 2, 2], outer: [6, 2] });
    expect(await redis.client.exists('failing')).toBe(0);
  });

  it('[TX-6] leave the index of a failed command right even if other commands were dropped', async () => {
    await redis.client.set('text', 'abc');
    const running = transactions.run(['text'], async (tx) => {
      const dropped = transactions.run(['a'], async (joined) => {
        joined.write.set('a', 1);
        await joined.read.get('b');
        throw new SoldOut();
      });
      tx.write.set('c', 1);
      tx.write.incr('text');
      await expect(dropped).rejects.toThrow(SoldOut);
    });
    await expect(running).rejects.toThrow(PartialCommitError);
    await expect(running).rejects.toMatchObject({
      index: 1,
      command: 'incr',
      replies: ['OK', expect.any(Error)],
    });
  });

  it('[TX-6] write nothing if all of them failed and the callback around them wrote nothing', async () => {
    const counts = await countCommands(redis.client, () =>
      transactions.run(['a'], async () => {
        await Promise.allSettled([stock.take('none'), stock.take('nothing')]);
      }),
    );
    expect(counts.exec).toBeUndefined();
  });

  it('[TX-6] join the surrounding transaction when an ended one starts them', async () => {
    const counts = await countCommands(redis.client, () =>
      transactions.run(['a'], async (tx) => {
        let later: Promise<unknown> | undefined;
        await transactions.run(['b'], () => {
          later = sleep(20).then(() => transactions.run(['c'], (inner) => void inner.write.set('c', 1)));
        });
        await later;
        tx.write.set('a', 1);
      }),
    );
    expect(counts.exec).toBe(1);
    expect(await redis.client.mget('a', 'c')).toEqual(['1', '1']);
  });

  it('[TX-6] are unusable once they have ended', async () => {
    await transactions.run(['a'], async () => {
      let escaped: Transaction | undefined;
      await transactions.run(['b'], (tx) => void (escaped = tx));
      expect(() => escaped!.write.set('b', 1)).toThrow(IllegalTransactionStateError);
      expect(() => escaped!.read.get('b')).toThrow(IllegalTransactionStateError);
      await expect(escaped!.watch('c')).rejects.toThrow(IllegalTransactionStateError);
    });
    expect(await redis.client.exists('b')).toBe(0);
  });

  describe('with their own options', () => {
    it.each<TransactionOptions>([
      { timeoutMs: 1_000 },
      { maxAttempts: 3 },
      { backoff: { minMs: 1 } },
      { durability: { replicas: 1 } },
      { completesRun: (value) => value },
    ])('[TX-6] are refused if these belong to the outermost: %p', async (options) => {
      let ran = false;
      await transactions.run(['a'], async (tx) => {
        const joining = transactions.run(['b'], () => (ran = true), options);
        await expect(joining).rejects.toThrow(IllegalTransactionStateError);
        tx.write.set('a', 1);
      });
      expect(ran).toBe(false);
      expect(await redis.client.get('a')).toBe('1');
    });

    it('[TX-6] do not start with an aborted signal', async () => {
      let ran = false;
      const reason = new Error('stop');
      await transactions.run(['a'], async () => {
        const joining = transactions.run(['b'], () => (ran = true), { signal: AbortSignal.abort(reason) });
        await expect(joining).rejects.toBe(reason);
      });
      expect(ran).toBe(false);
    });

    it('[TX-6] end at once when their signal aborts, and no others do', async () => {
      const reason = new Error('stop');
      const abort = new AbortController();
      await transactions.run(['a'], async (tx) => {
        const joining = transactions.run(
          ['b'],
          async (joined) => {
            joined.write.set('b', 1);
            await new Promise((resolve) => joined.signal.addEventListener('abort', resolve));
            await new Promise(() => undefined);
          },
          { signal: abort.signal },
        );
        setImmediate(() => abort.abort(reason));
        await expect(joining).rejects.toBe(reason);
        tx.write.set('a', 1);
      });
      expect(await redis.client.mget('a', 'b')).toEqual(['1', null]);
    });

    it('[TX-6] have their reads checked on request, even if nothing is written', async () => {
      await redis.client.mset('a', 1, 'b', 1);
      let attempts = 0;
      const read = (validateReads: boolean): Promise<(string | null)[]> =>
        transactions.run(['c'], async () => {
          attempts++;
          return await transactions.run(
            ['a', 'b'],
            async (tx) => {
              const a = await tx.read.get('a');
              if (attempts === 1) await redis.client.mset('a', 2, 'b', 2);
              return [a, await tx.read.get('b')];
            },
            { validateReads },
          );
        });
      await expect(read(true)).resolves.toEqual(['2', '2']);
      expect(attempts).toBeGreaterThan(1);
    });
  });
});
