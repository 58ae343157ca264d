import type { TestingModule } from '@nestjs/testing';
import {
  AtomicRedis,
  InvalidArgumentError,
  RedisReplyError,
  type AtomicRedisEvent,
} from 'nestjs-atomic-redis';
import {
  startFaultProxy,
  startRedisServer,
  type FaultProxy,
  type RedisCommand,
} from 'nestjs-atomic-redis/testing';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';

const on = (name: string) => ({ match: (command: RedisCommand) => command.name === name });
const NONE = { pending: 0, delayed: 0, processing: 0, dead: 0 };

describe('tx.push when the connection fails', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: TestingModule;
  let atomic: AtomicRedis;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    app = await boot({ connection: proxy.url, shutdownTimeoutMs: 500 });
    atomic = app.get(AtomicRedis);
  });

  afterEach(async () => {
    proxy.reset();
    await proxy.stop();
  });

  const push = (): Promise<string> =>
    atomic.transactions.run(['k'], async (tx) => {
      const value = Number(await tx.read.get('k'));
      tx.write.set('k', value + 1);
      return tx.push(atomic.queues.get('q'), value);
    });

  it.each(['loseReplies', 'cutBeforeServer'] as const)(
    '[QU-29] pushes one job when %s strikes EXEC, whose outcome is then resolved',
    async (fault) => {
      await push();
      const armed = proxy[fault](on('EXEC'));
      const id = await push();
      expect(armed.count).toBe(1);
      const queue = atomic.queues.get('q');
      expect((await queue.take())!.payload).toBe(0);
      expect(await queue.take()).toMatchObject({ id, payload: 1 });
      expect(await queue.counts()).toEqual({ ...NONE, processing: 2 });
      expect(await redis.client.get('k')).toBe('2');
    },
  );

  it('[QU-29] pushes nothing by an EXEC that arrives after the transaction was given up', async () => {
    await push();
    const late = proxy.deliverLate(700, on('EXEC'));
    await push();
    expect(await late.delivered).toBe(true);
    expect(await atomic.queues.get('q').counts()).toEqual({ ...NONE, pending: 2 });
  });

  it('[QU-29] pushes nothing when memory is full, and refuses the whole transaction', async () => {
    await push();
    await redis.client.config('SET', 'maxmemory', '1');
    await expect(push()).rejects.toThrow(RedisReplyError);
    await redis.client.config('SET', 'maxmemory', '0');
    expect(await atomic.queues.get('q').counts()).toEqual({ ...NONE, pending: 1 });
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[QU-29] reports each pushed job, and no other', async () => {
    const events: AtomicRedisEvent[] = [];
    atomic.events.subscribe((event) => events.push(event));
    const pushes = async (work: () => Promise<unknown>): Promise<AtomicRedisEvent[]> => {
      events.length = 0;
      await work().catch(() => undefined);
      await new Promise((resolve) => setImmediate(resolve));
      return events.filter(({ type }) => type === 'queues.push');
    };
    const queue = atomic.queues.get('q');
    expect(await pushes(push)).toEqual([
      expect.objectContaining({
        type: 'queues.push',
        name: 'q',
        outcome: 'applied',
        registration: 'default',
      }),
    ]);
    const failing = (): Promise<void> =>
      atomic.transactions.run(['k'], (tx) => {
        tx.push(queue, 1);
        throw new Error('no');
      });
    expect(await pushes(failing)).toEqual([]);
    const repeated = (): Promise<void> =>
      atomic.transactions.run(['k'], async (tx) => {
        await tx.read.get('k');
        tx.push(queue, 1);
        if (tx.attempt === 1) await redis.client.append('k', '1');
      });
    expect(await pushes(repeated)).toHaveLength(1);
    proxy.loseReplies(on('EXEC'));
    // Applied, with its replies lost.
    expect(await pushes(push)).toHaveLength(1);
  });
});

describe('tx.push of large payloads', () => {
  const boot = useApp();
  it('[QU-29] refuses a payload larger than the server accepts, and applies nothing', async () => {
    const server = await startRedisServer({
      binary: process.env['TEST_REDIS_BINARY'],
      args: ['--proto-max-bulk-len', '2mb', '--client-query-buffer-limit', '5mb'],
    });
    const app = await boot({ connection: server.url });
    const { transactions, queues } = app.get(AtomicRedis);
    const bytes = queues.get('q', { format: 'bytes' });
    const [fits, tooLong] = [Buffer.alloc(2 * 1_024 * 1_024), Buffer.alloc(2 * 1_024 * 1_024 + 1)];
    const push = (payload: Buffer): Promise<string> =>
      transactions.run(['k'], (tx) => {
        tx.write.incr('k');
        return tx.push(bytes, payload);
      });
    await push(fits);
    await expect(push(tooLong)).rejects.toThrow(InvalidArgumentError);
    // Also as one of several that wait for one key.
    const together = await Promise.allSettled([push(fits), push(tooLong), push(fits)]);
    expect(together.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    // The failed part is dropped, and with it the oversized payload.
    await transactions.run(['k'], async (tx) => {
      await transactions
        .run(['k'], (inner) => {
          inner.push(bytes, tooLong);
          throw new Error('no');
        })
        .catch(() => undefined);
      tx.write.incr('k');
    });
    expect(await bytes.counts()).toEqual({ ...NONE, pending: 3 });
    expect(await transactions.run(['k'], (tx) => tx.read.get('k'))).toBe('4');
    await app.close();
    await server.stop();
  });
});
