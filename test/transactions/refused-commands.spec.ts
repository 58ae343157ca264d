import { Injectable } from '@nestjs/common';
import { Redis } from 'ioredis';
import {
  ConfigurationError,
  InjectTransaction,
  OptimisticRetry,
  PartialCommitError,
  Transaction,
  TransactionService,
} from 'nestjs-atomic-redis';
import { startRedisServer, type RedisServer } from 'nestjs-atomic-redis/testing';
import { probeTransactions } from '../../lib/transactions/transaction-probe.js';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

@Injectable()
class Counters {
  constructor(@InjectTransaction() private readonly tx: Transaction) {}

  @OptimisticRetry({ watch: 'k' })
  async increment(): Promise<void> {
    this.tx.write.set('k', Number(await this.tx.read.get('k')) + 1);
  }
}

const COMMANDS = ['MULTI', 'EXEC', 'WATCH', 'DISCARD'];

describe('a server without a command that transactions need', () => {
  const boot = useApp();
  const redis = useRedis();

  const asUser = ({ host, port }: RedisServer): string => `redis://app:secret@${host}:${port}`;
  const start = async (connection: string): Promise<TransactionService> =>
    (await boot({ connection })).get(TransactionService);
  const allow = (...rules: string[]): Promise<unknown> =>
    redis.client.acl('SETUSER', 'app', 'on', '>secret', '~*', '&*', ...rules);

  beforeEach(() => allow('+@all'));

  /**
   * Counts the commands of a transaction in an application that started because it does not need
   * them; one that needs them cannot start.
   */
  const sentBy = async (connection: string, client: Redis): Promise<Record<string, number>> => {
    const transactions = await start(connection);
    const counts = await countCommands(client, async () => {
      const running = transactions.run(['k'], (tx) => void tx.write.set('k', 1));
      await expect(running).rejects.toThrow(ConfigurationError);
      await expect(running).rejects.toMatchObject({ outcome: 'not-applied', retryable: false });
    });
    const withDecorator = boot({ connection }, { providers: [Counters] });
    await expect(withDecorator).rejects.toThrow(ConfigurationError);
    return counts;
  };

  it.each(COMMANDS)(
    '[TX-17] %s by an ACL: applications with @OptimisticRetry do not start, and other calls are refused',
    async (command) => {
      await allow(`-${command.toLowerCase()}`);
      expect(await sentBy(asUser(redis.server), redis.client)).toEqual({});
    },
  );

  it.each(COMMANDS)('[TX-17] %s by renaming: the same happens', async (command) => {
    const server = await startRedisServer({
      binary: process.env['TEST_REDIS_BINARY'],
      args: ['--rename-command', command, ''],
    });
    const client = new Redis(server.url);
    try {
      expect(await sentBy(server.url, client)).toEqual({});
    } finally {
      client.disconnect();
      await server.stop();
    }
  });

  it('[TX-17] is detected at the first transaction if the application starts without a connection', async () => {
    await allow('-multi');
    const app = await boot({ connection: asUser(redis.server), lazyConnect: true });
    const running = app.get(TransactionService).run(['k'], (tx) => void tx.write.set('k', 1));
    await expect(running).rejects.toThrow(ConfigurationError);
    expect(await redis.client.exists('k')).toBe(0);
  });

  it('[TX-17] causes a partial commit with the replies if MULTI was allowed before, and nothing runs twice', async () => {
    const transactions = await start(asUser(redis.server));
    let runs = 0;
    const running = transactions.run(['k'], async (tx) => {
      runs++;
      await tx.read.get('k');
      await allow('-multi');
      tx.write.incr('k');
      tx.write.rpush('history', 'a');
    });
    await expect(running).rejects.toThrow(PartialCommitError);
    await expect(running).rejects.toMatchObject({
      index: -1,
      command: 'multi',
      replies: [1, 1],
      outcome: 'applied',
      retryable: false,
    });
    expect(runs).toBeLessThan(5);
    expect(await redis.client.get('k')).toBe('1');
    // From now on nothing is sent.
    const refused = transactions.run(['k'], (tx) => void tx.write.incr('k'));
    await expect(refused).rejects.toThrow(ConfigurationError);
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[TX-17] is usable again once the right is given back', async () => {
    const transactions = await start(asUser(redis.server));
    const increment = (): Promise<unknown> => transactions.run(['k'], (tx) => void tx.write.incr('k'));
    await increment();
    await expect(
      transactions.run(['k'], async (tx) => {
        await tx.read.get('k');
        await allow('-multi');
        tx.write.incr('k');
      }),
    ).rejects.toThrow(PartialCommitError);
    await allow('+multi');
    await waitFor('transactions to run', () =>
      increment().then(
        () => true,
        () => false,
      ),
    );
    expect(await redis.client.get('k')).toBe('3');
  });

  it('[TX-17] reports the partial commit to each transaction of a group, and applies each once', async () => {
    const transactions = await start(asUser(redis.server));
    await transactions.run(['other'], (tx) => void tx.write.incr('other'));
    let isFirst = true;
    const pay = (i: number): Promise<void> =>
      transactions.run(['k'], async (tx) => {
        const value = Number(await tx.read.get('k'));
        if (isFirst) {
          isFirst = false;
          await allow('-multi');
        }
        tx.write.set('k', value + 10);
        tx.write.rpush('paid', i);
      });
    const results = await Promise.allSettled([1, 2, 3].map(pay));
    const paid = await redis.client.lrange('paid', 0, -1);
    expect(Number(await redis.client.get('k'))).toBe(10 * paid.length);
    expect(new Set(paid).size).toBe(paid.length);
    expect(paid.length).toBeGreaterThan(1);
    for (const [i, result] of results.entries())
      if (paid.includes(String(i + 1)))
        expect((result as PromiseRejectedResult).reason).toBeInstanceOf(PartialCommitError);
      else expect((result as PromiseRejectedResult).reason).toMatchObject({ outcome: 'not-applied' });
  });

  it.each(['exec', 'watch'])(
    '[TX-17] applies nothing if %s was allowed before, alone and in a group',
    async (command) => {
      const transactions = await start(asUser(redis.server));
      await transactions.run(['k'], (tx) => void tx.write.set('k', 0));
      let isFirst = true;
      const pay = (): Promise<void> =>
        transactions.run(['k'], async (tx) => {
          const value = Number(await tx.read.get('k'));
          if (isFirst) {
            isFirst = false;
            await allow(`-${command}`);
          }
          if (command === 'watch') await tx.watch('another');
          tx.write.set('k', value + 10);
        });
      for (const many of [1, 3]) {
        isFirst = true;
        await allow('+@all');
        for (const result of await Promise.allSettled(Array.from({ length: many }, pay)))
          expect((result as PromiseRejectedResult).reason).toMatchObject({
            outcome: 'not-applied',
            retryable: false,
          });
        expect(await redis.client.get('k')).toBe('0');
      }
      await allow('+@all');
      await waitFor('transactions to run', () =>
        transactions
          .run(['k'], (tx) => void tx.write.incr('k'))
          .then(
            () => true,
            () => false,
          ),
      );
    },
  );

  describe('is tested', () => {
    const probe = async (call: (client: Redis, name: string, args: string[]) => Promise<unknown>) => {
      const client = new Redis(redis.server.url);
      const asked = { call: (name: string, args: string[]) => call(client, name, args) };
      try {
        return await probeTransactions(asked as unknown as Redis, 'there', 'probe');
      } finally {
        client.disconnect();
      }
    };

    it('[TX-17] for refusing an EXEC when a watched key has expired', async () => {
      await expect(probe((client, name, args) => client.call(name, args))).resolves.toEqual({ kind: 'fit' });
    });

    it('[TX-17] for a WATCH that has no effect, as behind a proxy that shares its connections', async () => {
      const found = await probe((client, name, args) =>
        name === 'WATCH' ? Promise.resolve('OK') : client.call(name, args),
      );
      expect(found).toMatchObject({ kind: 'unfit', error: expect.any(ConfigurationError) as unknown });
    });

    it.each([
      ['once', 1, { kind: 'fit' }],
      ['each time, and is not known then', Infinity, { kind: 'unknown', error: expect.any(Error) as Error }],
    ])('[TX-17] again, with more time, if WATCH was answered too late to tell: %s', async (_, late, told) => {
      let watches = 0;
      let set: Promise<unknown> | undefined;
      const found = await probe(async (client, name, args) => {
        if (name === 'WATCH' && ++watches <= late) {
          await set;
          await waitFor('the end of the key', async () => (await redis.client.exists('probe')) === 0);
        }
        const answer = client.call(name, args);
        if (name === 'SET') set = answer;
        return await answer;
      });
      expect(found).toEqual(told);
      // More often where this machine is too slow to tell.
      expect(watches).toBeGreaterThanOrEqual(2);
    });

    it('[TX-17] later, if there is no memory for the test', async () => {
      await redis.client.config('SET', 'maxmemory', '1');
      try {
        await expect(probe((client, name, args) => client.call(name, args))).resolves.toMatchObject({
          kind: 'unknown',
        });
        const transactions = await start(redis.server.url);
        await expect(transactions.run(['k'], (tx) => tx.read.get('k'))).resolves.toBeNull();
        const write = (): Promise<unknown> => transactions.run(['k'], (tx) => void tx.write.set('k', 1));
        await expect(write()).rejects.toMatchObject({ reply: 'OOM', outcome: 'not-applied' });
        await redis.client.config('SET', 'maxmemory', '0');
        await write();
      } finally {
        await redis.client.config('SET', 'maxmemory', '0');
      }
    });
  });
});
