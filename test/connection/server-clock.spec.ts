import type { TestingModule } from '@nestjs/testing';
import { AtomicRedis } from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

/** By how much the first reading of the server's clock is too early. */
const SLOW_MS = 1_500;

/**
 * Time for a call that a clock read so slowly judges late, and that a machine which stands still
 * for a second does not.
 */
const SHORT_MS = 1_200;

describe("a slow reading of the server's clock", () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let module: TestingModule;
  let atomic: AtomicRedis;
  let readings: number;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    readings = 0;
    let isQueued = false;
    const isFirstReading = (name: string): boolean => {
      // The check of the server at boot queues a TIME among others.
      if (['MULTI', 'EXEC', 'DISCARD'].includes(name)) isQueued = name === 'MULTI';
      return name === 'TIME' && !isQueued && ++readings === 1;
    };
    proxy.delay({ match: ({ name }) => isFirstReading(name), times: Infinity, replyMs: SLOW_MS });
    module = await boot({ connection: proxy.url, timeoutMs: 20_000 });
    atomic = module.get(AtomicRedis);
    // Waits for the slow reading, and is not late by it.
    await atomic.counters.get('k');
    await atomic.values.getAndSet('warm', 'up');
  });

  afterEach(() => proxy.stop());

  it('[CLK-1] is followed by another while calls are made, before any call is judged late', async () => {
    const readAgain = async (): Promise<boolean> => {
      await atomic.values.getAndSet('k', 'v');
      return readings > 1;
    };
    // Well before it is read again anyway.
    await waitFor('the clock is read again', readAgain, 15_000);
    // Comes behind the reading on the connection.
    await atomic.values.getAndSet('k', 'v');
    const short = await countCommands(redis.client, async () => {
      await atomic.values.getAndSet('k', 'v', { timeoutMs: SHORT_MS });
    });
    expect(short.evalsha).toBe(1);
  });

  it('[CLK-1] loses no scripted call its reply', async () => {
    expect(await atomic.values.compareAndSet('k', null, 'v', { timeoutMs: SHORT_MS })).toMatchObject({
      swapped: true,
    });
  });

  it('[CLK-1] loses no addition its reply when its batch also holds calls with more time', async () => {
    const counts = await Promise.all([
      atomic.counters.add('c', 1, { timeoutMs: 20_000 }),
      atomic.counters.add('d', 1, { timeoutMs: SHORT_MS }),
      atomic.counters.add('e', 10, { timeoutMs: SHORT_MS }),
      atomic.counters.add('e', 100, { timeoutMs: SHORT_MS }),
    ]);
    expect(counts.map(({ value }) => value)).toEqual([1, 1, 10, 110]);
  });

  it('[CLK-1] leaves the order of operations on one counter unchanged', async () => {
    const [first, second] = await Promise.allSettled([
      atomic.counters.add('c', 1, { timeoutMs: SHORT_MS }),
      atomic.counters.add('c', 10, { timeoutMs: 20_000 }),
    ]);
    // Made after the second one, the first would come to 11. On a machine that stood still the
    // clock is right again by now.
    if (first.status === 'fulfilled') {
      expect([first.value, second]).toMatchObject([{ value: 1 }, { value: { value: 11 } }]);
    } else {
      const refused = { code: 'REDIS_UNAVAILABLE', outcome: 'not-applied', retryable: true };
      expect([first.reason, second]).toMatchObject([refused, { value: { value: 10 } }]);
    }
  });

  it('[CLK-1] leaves no transfer across slots pending', async () => {
    await atomic.counters.add('from', 5);
    const made = await atomic.transfers.acrossSlots(
      { from: 'from', to: 'to', amount: 2 },
      { timeoutMs: SHORT_MS },
    );
    expect(made).toMatchObject({ from: 3, to: 2 });
    expect((await atomic.transfers.pending({ from: 'from' })).transfers).toEqual([]);
  });
});
