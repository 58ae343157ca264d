import type { TestingModule } from '@nestjs/testing';
import { Redis, type RedisOptions } from 'ioredis';
import {
  CrossSlotError,
  TransactionService,
  type AtomicRedisOptions,
  type ConnectionOption,
} from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';

describe('transactions in edge cases', () => {
  const boot = useApp();
  const redis = useRedis();
  const apps: TestingModule[] = [];

  const start = async (
    connection: ConnectionOption = redis.server.url,
    options: Partial<AtomicRedisOptions> = {},
  ): Promise<TransactionService> => {
    const app = await boot({ connection, ...options });
    apps.push(app);
    return app.get(TransactionService);
  };

  beforeEach(() => redis.client.acl('SETUSER', 'app', 'on', '>secret', '~*', '&*', '+@all'));

  afterEach(async () => {
    await redis.client.config('SET', 'maxmemory', '0');
    await Promise.all(apps.splice(0).map((app) => app.close()));
  });

  it('[TX-3] count a write of identical bytes as a conflict', async () => {
    const transactions = await start();
    await redis.client.set('k', 'same');
    let attempts = 0;
    await transactions.run(['k'], async (tx) => {
      attempts++;
      await tx.read.get('k');
      if (attempts === 1) await redis.client.set('k', 'same');
      tx.write.set('k', 'mine');
    });
    expect(attempts).toBeGreaterThan(1);
  });

  it('[TX-3] see a key that expired meanwhile as missing, in a second attempt', async () => {
    const transactions = await start();
    // Long enough for it to be there when it is read, on a new connection.
    await redis.client.set('k', 'short-lived', 'PX', 1_500);
    const seen: (string | null)[] = [];
    await transactions.run(['k'], async (tx) => {
      seen.push(await tx.read.get('k'));
      while (await redis.client.exists('k')) await new Promise((resolve) => setTimeout(resolve, 5));
      tx.write.set('k', 'mine');
    });
    expect(seen).toEqual(['short-lived', null]);
  });

  it('[TX-4] check their reads without a write on request', async () => {
    const transactions = await start();
    await redis.client.mset('a', 1, 'b', 1);
    let attempts = 0;
    const read = (validateReads: boolean): Promise<(string | null)[]> => {
      attempts = 0;
      return transactions.run(
        ['a', 'b'],
        async (tx) => {
          attempts++;
          const a = await tx.read.get('a');
          if (attempts === 1) await redis.client.mset('a', 2, 'b', 2);
          return [a, await tx.read.get('b')];
        },
        { validateReads },
      );
    };
    await expect(read(true)).resolves.toEqual(['2', '2']);
    expect(attempts).toBeGreaterThan(1);
    await redis.client.mset('a', 1, 'b', 1);
    await expect(read(false)).resolves.toEqual(['1', '2']);
  });

  it.each([
    ['OOM', () => redis.client.config('SET', 'maxmemory', '1')],
    ['NOPERM', () => redis.client.acl('SETUSER', 'app', '-set')],
  ])('[TX-5] do not retry a refusal with %s, and nothing is applied', async (reply, refuse) => {
    const { host, port } = redis.server;
    const transactions = await start({ host, port, username: 'app', password: 'secret' });
    await transactions.run(['warm-up'], (tx) => void tx.write.incr('warm-up'));
    let attempts = 0;
    const running = transactions.run(['k'], async (tx) => {
      attempts++;
      await tx.read.get('k');
      await refuse();
      tx.write.incr('k');
      tx.write.set('k', 1);
    });
    await expect(running).rejects.toMatchObject({ code: 'REDIS_REPLY', reply, outcome: 'not-applied' });
    expect(attempts).toBeLessThan(5);
    expect(await redis.client.exists('k')).toBe(0);
  });

  it('[TX-6] inherit database, ACL user and key prefix of the client, and none of its other options', async () => {
    const { host, port } = redis.server;
    const habits = {
      enableAutoPipelining: true,
      stringNumbers: true,
      replyMapping: 'resp3',
    };
    const mine = new Redis({
      host,
      port,
      username: 'app',
      password: 'secret',
      keyPrefix: 'mine:',
      ...habits,
    } as RedisOptions);
    await mine.select(2);
    const transactions = await start(mine);
    await mine.hset('h', 'field', 1);
    const replies: unknown[] = [];
    await transactions.run(
      ['h'],
      async (tx) => {
        expect(await tx.read.hgetall('h')).toEqual({ field: '1' });
        expect(await tx.read.hlen('h')).toBe(1);
        tx.write.hincrby('h', 'field', 1);
      },
      { onReplies: (all) => replies.push(...(all ?? [])) },
    );
    expect(replies).toEqual([2]);
    expect(await mine.hget('h', 'field')).toBe('2');
    const clients = (await redis.client.client('LIST')) as string;
    expect(clients).toMatch(/name=nestjs-atomic-redis:default:transaction .*db=2 .*user=app/);
    mine.disconnect();
  });

  it('[TX-6] close connections that were idle for their time, and none before', async () => {
    const idleTimeoutMs = 1_000;
    const transactions = await start(undefined, { transactions: { idleTimeoutMs } });
    const open = async (): Promise<number> =>
      ((await redis.client.client('LIST')) as string).split(':transaction ').length - 1;
    let lastEnd = 0;
    await Promise.all(
      [0, 0, 0, 500].map(async (ms, i) => {
        await transactions.run([`k${i}`], () => new Promise((resolve) => setTimeout(resolve, ms)));
        lastEnd = performance.now();
      }),
    );
    while ((await open()) > 0) await new Promise((resolve) => setTimeout(resolve, 50));
    // The connection may have been given back a little before.
    expect(performance.now() - lastEnd).toBeGreaterThan(idleTimeoutMs - 200);
    await expect(transactions.run(['k'], () => 1)).resolves.toBe(1);
  });

  it('[TX-6] give up waiting for a connection at their deadline', async () => {
    const transactions = await start(undefined, { transactions: { maxConnections: 1 } });
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => (release = resolve));
    const holder = transactions.run(['a'], () => gate);
    const waiting = transactions.run(['b'], () => 1, { timeoutMs: 100 });
    await expect(waiting).rejects.toMatchObject({ outcome: 'not-applied', retryable: true });
    release();
    await holder;
    await expect(transactions.run(['b'], () => 1)).resolves.toBe(1);
  });

  it('[TX-8] obey their signal while they wait for a connection, and do not run afterwards', async () => {
    const transactions = await start(undefined, { transactions: { maxConnections: 1 } });
    const unhandled: unknown[] = [];
    const listener = (error: unknown): void => void unhandled.push(error);
    process.on('unhandledRejection', listener);
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => (release = resolve));
    const holder = transactions.run(['a'], () => gate);
    const reason = new Error('enough');
    const abort = new AbortController();
    let ran = false;
    const waiting = transactions.run(['b'], () => (ran = true), { signal: abort.signal });
    await new Promise((resolve) => setImmediate(resolve));
    abort.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    release();
    await holder;
    await expect(transactions.run(['b'], () => 1)).resolves.toBe(1);
    expect(ran).toBe(false);
    expect(unhandled).toEqual([]);
    process.off('unhandledRejection', listener);
  });

  it('[TX-8] recover by themselves when the server restarts between attempts', async () => {
    const transactions = await start();
    await redis.client.set('k', 1);
    let attempts = 0;
    await transactions.run(['k'], async (tx) => {
      attempts++;
      await tx.read.get('k');
      if (attempts === 1) await redis.server.restart();
      tx.write.set('k', `attempt ${attempts}`);
    });
    expect(attempts).toBeGreaterThan(1);
    expect(await redis.client.get('k')).toBe(`attempt ${attempts}`);
  });

  it('[TX-8] stop waiting between attempts as soon as their signal aborts', async () => {
    const transactions = await start();
    const reason = new Error('enough');
    const abort = new AbortController();
    const startedAt = performance.now();
    const running = transactions.run(
      ['k'],
      async (tx) => {
        await tx.read.get('k');
        await redis.client.incr('k');
        tx.write.set('k', 0);
        setImmediate(() => abort.abort(reason));
      },
      { signal: abort.signal, backoff: { minMs: 60_000, maxMs: 60_000 }, timeoutMs: 120_000 },
    );
    await expect(running).rejects.toBe(reason);
    expect(performance.now() - startedAt).toBeLessThan(5_000);
  });

  it('[TX-7] refuse keys of other slots on request, before they are sent', async () => {
    const transactions = await start(undefined, { transactions: { requireSameSlot: true } });
    await expect(transactions.run(['a', 'b'], () => 1)).rejects.toThrow(CrossSlotError);
    const stray = (work: Parameters<typeof transactions.run>[1]) =>
      expect(transactions.run(['{a}'], work)).rejects.toThrow(CrossSlotError);
    await stray((tx) => tx.write.set('b', 1));
    await stray((tx) => tx.read.get('b'));
    await stray((tx) => tx.watch('b'));
    expect(await redis.client.exists('b')).toBe(0);
  });

  it('[TX-7] read a stream, but never block on one', async () => {
    const transactions = await start();
    await redis.client.xadd('s', '*', 'field', 'value');
    const read = await transactions.run(['s'], (tx) => tx.read.xread('COUNT', 1, 'STREAMS', 's', '0'));
    expect(read).toMatchObject([['s', [[expect.any(String), ['field', 'value']]]]]);
    await expect(
      transactions.run(['s'], (tx) => tx.read.xread('BLOCK', 0, 'STREAMS', 's', '$')),
    ).rejects.toThrow(/BLOCK/);
  });

  it('[TX-2] send no UNWATCH and no reset between transactions that commit', async () => {
    const transactions = await start();
    const increment = (): Promise<void> => transactions.run(['k'], (tx) => void tx.write.incr('k'));
    await increment();
    const counts = await countCommands(redis.client, async () => {
      for (let i = 0; i < 10; i++) await increment();
    });
    expect(counts).toEqual({ watch: 10, multi: 10, incr: 10, set: 10, exec: 10 });
  });
});
