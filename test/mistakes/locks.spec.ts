import { Redis } from 'ioredis';
import type { IdempotencyService, TransactionService } from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { useAtomicRedis } from './app.js';
import { interrupted, meddledWith, useMistake } from './mistakes.js';

const redis = useRedis();
const atomic = useAtomicRedis(() => ({ connection: redis.server.url, namespace: 'atomic:' }));

describe('[DOC-2] a lock without a fence', () => {
  const mistake = useMistake<
    { withdraw(redis: Redis, key: string, amount: number, lockMs: number): Promise<void> },
    { withdraw(transactions: TransactionService, key: string, amount: number): Promise<void> }
  >('A lock without a fence');

  beforeEach(() => redis.client.set('balance', 100));

  it('lets a stopped holder overwrite the next holder’s write', async () => {
    const standStill = async (): Promise<void> => {
      await waitFor('the end of the lock', async () => (await redis.client.exists('lock:balance')) === 0);
      await mistake.wrong.withdraw(redis.client, 'balance', 10, 60_000);
      expect(await redis.client.get('balance')).toBe('90');
    };
    await mistake.wrong.withdraw(interrupted(redis.client, 'get', once(standStill)), 'balance', 50, 20);
    expect(await redis.client.get('balance')).toBe('50');
  });

  it('writes nothing outdated when replaced by a transaction, however long the process was stopped', async () => {
    const { transactions } = atomic.services;
    const another = once(() => redis.client.decrby('balance', 10));
    await mistake.right.withdraw(meddledWith(transactions, another), 'balance', 50);
    expect(await redis.client.get('balance')).toBe('40');
  });
});

describe('[DOC-2] SET NX without a result', () => {
  const mistake = useMistake<
    { createOrder(redis: Redis, requestId: string, create: () => Promise<string>): Promise<object> },
    {
      createOrder(
        idempotency: IdempotencyService,
        requestId: string,
        create: () => Promise<string>,
      ): Promise<object>;
    }
  >('SET NX without a result');
  let orders = 0;
  const create = async (): Promise<string> => `order ${++orders}`;
  const fail = async (): Promise<string> => {
    throw new Error('the database was away');
  };

  beforeEach(() => void (orders = 0));

  it('takes a failed call for done, and has no answer for a repeated one', async () => {
    const { createOrder } = mistake.wrong;
    await expect(createOrder(redis.client, 'r1', fail)).rejects.toThrow('the database was away');
    expect(await createOrder(redis.client, 'r1', create)).toEqual({ duplicate: true });
    expect(orders).toBe(0);

    expect(await createOrder(redis.client, 'r2', create)).toEqual({ order: 'order 1' });
    expect(await createOrder(redis.client, 'r2', create)).toEqual({ duplicate: true });
  });

  it('runs again after a failure and then replays its answer when replaced by an idempotent run', async () => {
    const { idempotency } = atomic.services;
    const { createOrder } = mistake.right;
    await expect(createOrder(idempotency, 'r1', fail)).rejects.toThrow('the database was away');
    expect(await createOrder(idempotency, 'r1', create)).toEqual({ order: 'order 1' });
    expect(await createOrder(idempotency, 'r1', create)).toEqual({ order: 'order 1' });
  });
});

function once(work: () => unknown): () => unknown {
  let done = false;
  return () => {
    if (done) return undefined;
    done = true;
    return work();
  };
}
