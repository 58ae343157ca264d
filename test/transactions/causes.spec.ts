import {
  RedisReplyError,
  TransactionService,
  TransactionTimeoutError,
  type TransactionOptions,
} from '../../lib/index.js';
import { startFaultProxy, type FaultProxy, type RedisCommand } from '../../lib/testing/index.js';
import { useBoot } from '../support/boot.js';
import { holdRequest } from '../support/hold-request.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

const onExec = { match: ({ name }: RedisCommand) => name === 'EXEC' };
const config = (name: string, value: string) => [name, value] as const;

describe('a failed transaction', () => {
  const redis = useRedis();
  const { boot } = useBoot();
  let proxy: FaultProxy;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
  });
  afterEach(() => proxy.stop());

  const start = async (options: object = {}): Promise<TransactionService> => {
    const { redis: services } = await boot({
      namespace: 'atomic:',
      connection: proxy.url,
      shutdownTimeoutMs: 1_000,
      ...options,
    });
    return services.transactions;
  };
  const write = (
    transactions: TransactionService,
    options: TransactionOptions = {},
    value = '1',
  ): Promise<void> => transactions.run(['k'], (tx) => void tx.write.set('k', value), options);

  describe('at EXEC, because the server changed during the transaction', () => {
    const behindTheCommands = async (
      transactions: TransactionService,
      change: () => Promise<unknown>,
    ): Promise<unknown> => {
      await write(transactions, {}, 'before');
      const running = write(transactions, { timeoutMs: 20_000 }, 'after').then(
        () => 'applied',
        (error: unknown) => error,
      );
      await holdRequest(proxy, onExec, change);
      return await running;
    };

    it('[TX-5] runs again at the new master if the server became a replica', async () => {
      const transactions = await start();
      const result = await behindTheCommands(transactions, async () => {
        await redis.client.replicaof('127.0.0.1', 1);
        setTimeout(() => void redis.client.replicaof('NO', 'ONE'), 300);
      });
      expect([result, await redis.client.get('k')]).toEqual(['applied', 'after']);
    });

    it('[TX-5] runs again if there were too few replicas', async () => {
      const transactions = await start();
      const result = await behindTheCommands(transactions, async () => {
        await redis.client.config('SET', ...config('min-replicas-to-write', '1'));
        setTimeout(() => void redis.client.config('SET', ...config('min-replicas-to-write', '0')), 300);
      });
      expect([result, await redis.client.get('k')]).toEqual(['applied', 'after']);
    });

    it('[TX-5] reports full memory like that of a command', async () => {
      const transactions = await start();
      const result = await behindTheCommands(transactions, () =>
        redis.client.config('SET', ...config('maxmemory', '1')),
      );
      await redis.client.config('SET', ...config('maxmemory', '0'));
      expect(result).toBeInstanceOf(RedisReplyError);
      expect(result).toMatchObject({ reply: 'OOM', outcome: 'not-applied', retryable: true });
      expect(await redis.client.get('k')).toBe('before');
    });
  });

  it('[TX-5] reports a value larger than the server accepts, only to its own caller', async () => {
    const transactions = await start();
    await redis.client.set('k', 0);
    await redis.client.config('SET', ...config('proto-max-bulk-len', '1mb'));
    const add = (i: number): Promise<void> =>
      transactions.run(['k'], async (tx) => {
        tx.write.set('k', Number(await tx.read.get('k')) + 1);
        if (i === 2) tx.write.set('large', 'x'.repeat(2_000_000));
      });
    const told = await Promise.allSettled([0, 1, 2, 3].map(add));
    await redis.client.config('SET', ...config('proto-max-bulk-len', '512mb'));
    expect(told.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
    const { reason } = told[2] as PromiseRejectedResult;
    expect(reason).toBeInstanceOf(RedisReplyError);
    expect(reason).toMatchObject({
      outcome: 'not-applied',
      retryable: false,
      message: expect.stringContaining('bulk length') as string,
    });
    expect(await redis.client.mget('k', 'large')).toEqual(['3', null]);
  });

  describe('at its deadline', () => {
    afterEach(() => redis.server.resume());

    const failure = (running: Promise<unknown>): Promise<Error> =>
      running.then(
        () => new Error('it was applied'),
        (error: Error) => error,
      );

    it('[TX-8] reports a server that does not answer WATCH', async () => {
      const transactions = await start();
      await write(transactions);
      redis.server.pause();
      const error = await failure(write(transactions, { timeoutMs: 1_000 }));
      expect(error).toMatchObject({ code: 'REDIS_UNAVAILABLE', outcome: 'not-applied' });
      expect(error.message).toContain('no reply');
    });

    it('[TX-8] reports a server that answers WATCH but not the next read', async () => {
      const transactions = await start();
      const error = await failure(
        transactions.run(
          ['k'],
          async (tx) => {
            await tx.read.get('k');
            redis.server.pause();
            await tx.read.get('k');
          },
          { timeoutMs: 2_500 },
        ),
      );
      expect(error).toMatchObject({ code: 'REDIS_UNAVAILABLE', outcome: 'not-applied' });
      expect(error.message).toContain('no reply');
    });

    it('[TX-8] reports a server that hangs before a connection exists, not a busy pool', async () => {
      const transactions = await start();
      redis.server.pause();
      const error = await failure(write(transactions, { timeoutMs: 1_000 }));
      expect(error).toMatchObject({ code: 'REDIS_UNAVAILABLE', outcome: 'not-applied' });
      expect(error.message).toContain('no reply');
    });

    it('[TX-8] reports refused connections, not a busy pool', async () => {
      const transactions = await start();
      proxy.refuseConnections(true);
      const error = await failure(write(transactions, { timeoutMs: 1_000 }));
      expect(error).toMatchObject({ code: 'REDIS_UNAVAILABLE', outcome: 'not-applied' });
      expect(error.message).not.toContain('in use');
      proxy.refuseConnections(false);
    });

    it('[TX-8] reports a pool whose connections are all in use', async () => {
      const transactions = await start({ transactions: { maxConnections: 1 } });
      let isHeld = false;
      let letGo = (): void => undefined;
      const holding = transactions.run(['other'], () => {
        isHeld = true;
        return new Promise<void>((resolve) => (letGo = resolve));
      });
      await waitFor('the connection to be taken', () => isHeld);
      const error = await failure(write(transactions, { timeoutMs: 500 }));
      letGo();
      await holding;
      expect(error).toMatchObject({ code: 'REDIS_UNAVAILABLE', outcome: 'not-applied' });
      expect(error.message).toContain('all 1 transaction connections were in use');
    });

    it('[TX-8] reports a slow callback, not an earlier loss of the connection', async () => {
      const transactions = await start();
      await write(transactions);
      const error = await failure(
        transactions.run(
          ['k'],
          async (tx) => {
            if (tx.attempt === 1) {
              proxy.disconnectAll();
              await tx.read.get('k');
            }
            await new Promise((resolve) => tx.signal.addEventListener('abort', resolve));
          },
          { timeoutMs: 2_000 },
        ),
      );
      expect(error).toBeInstanceOf(TransactionTimeoutError);
    });
  });
});
