import type { TestingModule } from '@nestjs/testing';
import {
  AtomicRedisError,
  OutcomeUnknownError,
  TransactionConflictError,
  TransactionService,
  TransactionTimeoutError,
  type TransactionOptions,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy, type RedisCommand } from 'nestjs-atomic-redis/testing';
import { Redis } from 'ioredis';
import { setTimeout as sleep } from 'node:timers/promises';
import { MIN_GRACE_MS } from '../../lib/transactions/round-trips.js';
import { useApp } from '../support/app.js';
import { holdRequest } from '../support/hold-request.js';
import { useRedis } from '../support/redis.js';
import { increment } from './increment.js';

const on = (name: string) => ({ match: (command: RedisCommand) => command.name === name });

/** Holds the event loop, so that no timer and no answer comes through. */
const blockUntil = (at: number): void => {
  while (performance.now() < at);
};

/**
 * Resolves when the server answers no more: an EXEC that came before DEBUG SLEEP would take effect
 * in time.
 */
async function untilSilent(url: string): Promise<void> {
  const probe = new Redis(url);
  probe.on('error', () => undefined);
  try {
    for (;;) {
      const answered = probe.ping().then(
        () => true,
        () => true,
      );
      if (!(await Promise.race([answered, sleep(300, false)]))) return;
    }
  } finally {
    probe.disconnect();
  }
}

/** Transactions at the same time, each on a connection of its own. */
const TOGETHER = 50;

describe('the deadline of an EXEC', () => {
  const boot = useApp();
  const redis = useRedis({ args: ['--enable-debug-command', 'yes'] });
  let proxy: FaultProxy;
  let app: TestingModule;
  let transactions: TransactionService;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    app = await boot({
      connection: proxy.url,
      shutdownTimeoutMs: 1_000,
      transactions: { maxConnections: TOGETHER },
    });
    transactions = app.get(TransactionService);
    await redis.client.set('k', 0);
    // Opens a connection.
    await transactions.run(['other'], (tx) => void tx.write.incr('other'));
  });

  afterEach(async () => {
    redis.server.resume();
    await redis.client.config('SET', 'maxmemory', '0');
    proxy.reset();
    await proxy.stop();
  });

  const run = (options?: TransactionOptions): Promise<number> => transactions.run(['k'], increment, options);
  const failureOf = (running: Promise<unknown>): Promise<unknown> =>
    running.then(
      (value) => ({ value }),
      (error: unknown) => error,
    );

  describe('that reaches Redis after the caller got an error', () => {
    // The obstacle between the client and Redis, or in Redis, ends only after that.
    const ways: [string, (meanwhile: () => Promise<unknown>) => Promise<unknown>][] = [
      ['an interrupted network', (meanwhile) => holdRequest(proxy, on('EXEC'), meanwhile)],
      [
        'a server that was stopped',
        (meanwhile) =>
          holdRequest(proxy, on('EXEC'), async () => {
            redis.server.pause();
            proxy.resume();
            await meanwhile();
            redis.server.resume();
          }),
      ],
      [
        'a server that slept',
        (meanwhile) =>
          holdRequest(proxy, on('EXEC'), async () => {
            const sleeping = redis.client.debug('SLEEP', 3);
            await untilSilent(redis.server.url);
            proxy.resume();
            await Promise.all([sleeping, meanwhile()]);
          }),
      ],
    ];

    it.each(ways)(
      '[TX-16] takes no effect after %s, and the reported outcome is unknown',
      async (_, hold) => {
        let failure: unknown;
        const running = failureOf(run({ timeoutMs: 1_500 }));
        await hold(async () => void (failure = await running));
        expect(failure).toBeInstanceOf(OutcomeUnknownError);
        expect(await redis.client.get('k')).toBe('0');
        // The requests behind it have arrived as well.
        await expect(run()).resolves.toBe(1);
        expect(await redis.client.get('k')).toBe('1');
      },
    );

    it.each(ways)('[TX-16] takes no effect for a group after %s', async (_, hold) => {
      const failures: unknown[] = [];
      const running = Promise.all(
        [1, 2, 3, 4].map(async (i) => (failures[i] = await failureOf(run({ timeoutMs: 2_000 })))),
      );
      await hold(() => running);
      const told = failures.filter((one) => one instanceof OutcomeUnknownError).length;
      expect(told).toBeGreaterThan(0);
      expect(failures.filter((one) => typeof (one as { value?: number }).value === 'number')).toEqual([]);
      expect(await redis.client.get('k')).toBe('0');
    });

    it('[TX-16] takes no effect for a transaction with less time than the one it waited for', async () => {
      let begun = (): void => undefined;
      const hasBegun = new Promise<void>((resolve) => (begun = resolve));
      const patient = transactions.run(
        ['k'],
        async (tx) => {
          const value = Number(await tx.read.get('k'));
          begun();
          await sleep(10);
          tx.write.set('k', value + 1);
        },
        { timeoutMs: 60_000 },
      );
      await hasBegun;
      // Waits for its turn when the other one's EXEC is written.
      const hurried = failureOf(
        transactions.run(['k'], (tx) => void tx.write.rpush('hurried', 1), { timeoutMs: 1_500 }),
      );
      let failure: unknown;
      await holdRequest(proxy, on('EXEC'), async () => (failure = await hurried));
      await patient;
      expect(failure).toBeInstanceOf(Error);
      expect(await redis.client.exists('hurried')).toBe(0);
    });

    it('[TX-16] takes no effect with the default time-out', async () => {
      let failure: unknown;
      const running = failureOf(run());
      await holdRequest(proxy, on('EXEC'), async () => {
        redis.server.pause();
        proxy.resume();
        failure = await running;
        redis.server.resume();
      });
      expect(failure).toBeInstanceOf(OutcomeUnknownError);
      expect(await redis.client.get('k')).toBe('0');
    }, 30_000);
  });

  it('[TX-16] is known to Redis for each transaction of a connection, whatever the previous one had', async () => {
    const one = new TransactionConflictError([], 0, 0);
    for (const timeoutMs of [60_000, 1_000, 30_000, 1_500]) {
      const left: number[] = [];
      const startedAt = performance.now();
      const running = transactions.run(
        ['k'],
        async (tx) => {
          await tx.read.get('k');
          const elapsedMs = performance.now() - startedAt;
          const keys = await redis.client.keys('atomic:transaction-deadline:*');
          left.push(...(await Promise.all(keys.map((key) => redis.client.pttl(key)))));
          // Others stay until they expire.
          expect(left.some((ms) => ms > 0 && ms <= timeoutMs - elapsedMs)).toBe(true);
          throw one;
        },
        { timeoutMs },
      );
      await expect(running).rejects.toBe(one);
      expect(Math.min(...left)).toBeLessThan(timeoutMs);
    }
  });

  it('[TX-16] aborts a transaction whose callback blocks the event loop past it', async () => {
    const failure = await failureOf(
      transactions.run(
        ['k'],
        async (tx) => {
          await increment(tx);
          blockUntil(performance.now() + 1_600);
        },
        { timeoutMs: 1_500 },
      ),
    );
    expect(failure).toBeInstanceOf(TransactionTimeoutError);
    expect(await redis.client.get('k')).toBe('0');
  });

  it('[TX-16] starts when the attempt is written: a callback that blocks the event loop first runs once', async () => {
    const answerMs: number[] = [];
    await transactions.run(
      ['k'],
      async (tx) => {
        blockUntil(performance.now() + 300);
        const askedAt = performance.now();
        await increment(tx);
        answerMs.push(performance.now() - askedAt);
      },
      { timeoutMs: 60_000, maxAttempts: 1 },
    );
    // An attempt runs again where Redis was slow to answer it, as on a machine that stands still.
    for (const ms of answerMs.slice(0, -1)) expect(ms).toBeGreaterThan(MIN_GRACE_MS);
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[TX-16] leaves no outcome unknown or misreported for callbacks that end close to it', async () => {
    const timeoutMs = 1_000;
    // Around the deadline, and around the last moment at which an EXEC is written.
    const ends = [timeoutMs, timeoutMs - 50].flatMap((ms) => [ms - 2, ms - 1, ms, ms + 1, ms + 2]);
    const told: Record<string, number> = {};
    const wrong: string[] = [];
    const unknown: string[] = [];
    const one = async (i: number): Promise<void> => {
      const key = `close:${i}`;
      const endAt = performance.now() + ends[i % ends.length]!;
      const failure = await failureOf(
        transactions.run(
          [key],
          async (tx) => {
            await tx.read.get(key);
            await sleep(endAt - performance.now() - 4);
            while (performance.now() < endAt) await new Promise((resolve) => setImmediate(resolve));
            tx.write.set(key, 1);
          },
          { timeoutMs },
        ),
      );
      const outcome = failure instanceof AtomicRedisError ? failure.outcome : 'applied';
      told[outcome] = (told[outcome] ?? 0) + 1;
      if (outcome === 'unknown') unknown.push(String(failure));
      else if ((await redis.client.exists(key)) !== (outcome === 'applied' ? 1 : 0))
        wrong.push(`${key}: ${outcome}`);
    };
    for (let round = 0; round < 400 / TOGETHER; round++)
      await Promise.all(Array.from({ length: TOGETHER }, (_, i) => one(round * TOGETHER + i)));
    expect(wrong).toEqual([]);
    // A machine that stands still for longer than is kept for a reply leaves one.
    expect(unknown.slice(5)).toEqual([]);
    expect(told['not-applied']).toBeGreaterThan(0);
  }, 60_000);

  it('[TX-16] restarts an attempt, without counting it, when WATCH was answered too late for it', async () => {
    const late = proxy.delay({ ...on('WATCH'), replyMs: 600 });
    const attempts: number[] = [];
    await transactions.run(
      ['k'],
      async (tx) => {
        attempts.push(tx.attempt);
        await increment(tx);
      },
      // Shorter than the one before, whose key it could use otherwise.
      { timeoutMs: 8_000, maxAttempts: 1 },
    );
    expect(late.count).toBe(1);
    expect(attempts.length).toBeGreaterThan(1);
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[TX-16] prevents a commit whose deadline key had expired before it was watched', async () => {
    // Redis sets the key, and gets the WATCH once it has expired: it would never abort the EXEC.
    proxy.delay({ ...on('WATCH'), requestMs: 1_500 });
    const failure = await failureOf(run({ timeoutMs: 1_000 }));
    expect(failure).toMatchObject({ outcome: 'not-applied' });
    expect(await redis.client.get('k')).toBe('0');
  });

  it('[TX-16] refuses nothing because of a single slow reply', async () => {
    proxy.delay({ ...on('WATCH'), replyMs: 1_500 });
    await run({ timeoutMs: 20_000 });
    // Three times that is more than half of what this one has.
    await expect(run({ timeoutMs: 5_000 })).resolves.toBe(2);
  });

  it('[TX-16] fails at once if an attempt could not be answered in time, and nothing is sent', async () => {
    let ran = false;
    const running = transactions.run(['k'], () => (ran = true), { timeoutMs: 60 });
    await expect(running).rejects.toThrow(TransactionTimeoutError);
    expect(ran).toBe(false);
  });

  it('[TX-16] permits transactions that only read when memory is full', async () => {
    // Not a key of the library's own can be set.
    await redis.client.config('SET', 'maxmemory', '1');
    for (const timeoutMs of [5_000, 50_000])
      await expect(transactions.run(['k'], (tx) => tx.read.get('k'), { timeoutMs })).resolves.toBe('0');
    await expect(run({ timeoutMs: 5_000 })).rejects.toMatchObject({
      reply: 'OOM',
      outcome: 'not-applied',
      retryable: true,
    });
    await redis.client.config('SET', 'maxmemory', '0');
    await expect(run()).resolves.toBe(1);
  });
});
