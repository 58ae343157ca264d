import { backOffMs, resolveRetry, retryDefaults } from '../../lib/queues/back-off.js';
import { InvalidArgumentError } from '../../lib/index.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { openQueues, type TestQueues } from './queues.js';

describe('the back-off of failed jobs', () => {
  const steps: [retry: object, deliveries: number, from: number, to: number][] = [
    [{}, 1, 1_000, 6_000],
    [{}, 2, 6_000, 36_000],
    [{}, 3, 36_000, 216_000],
    [{}, 4, 216_000, 1_296_000],
    [{}, 5, 300_000, 1_800_000],
    [{}, 1_000_000, 300_000, 1_800_000],
    [{ minMs: 100, maxMs: 1_000 }, 1, 100, 600],
    [{ minMs: 100, maxMs: 1_000 }, 2, 167, 1_000],
    [{ minMs: 100, maxMs: 100 }, 3, 100, 100],
    [{ maxMs: 500 }, 1, 500, 500],
    [{ minMs: 3_600_000 }, 2, 3_600_000, 3_600_000],
    [{ minMs: 0, maxMs: 0 }, 4, 0, 0],
    [{ minMs: 0 }, 4, 0, 0],
  ];
  it.each(steps)(
    '[QU-28] draws each wait evenly within its step: %j, delivery %d',
    (given, deliveries, from, to) => {
      const retry = resolveRetry(retryDefaults, given);
      const waits = Array.from({ length: 2_000 }, () => backOffMs(deliveries, retry));
      expect(Math.min(...waits)).toBeGreaterThanOrEqual(from - 1);
      expect(Math.max(...waits)).toBeLessThanOrEqual(to);
      if (to === from) return;
      // Each tenth of the step has its share.
      const tenths = new Set(waits.map((ms) => Math.min(9, Math.floor(((ms - from) / (to - from)) * 10))));
      for (let tenth = 0; tenth < 10; tenth++) expect(tenths).toContain(tenth);
    },
  );

  it('[QU-28] outlasts an outage of four minutes by default', () => {
    const least = jest.spyOn(Math, 'random').mockReturnValue(0);
    const waits = [1, 2, 3, 4].map((deliveries) => backOffMs(deliveries, retryDefaults));
    least.mockRestore();
    expect(waits.reduce((sum, ms) => sum + ms)).toBeGreaterThan(240_000);
  });
});

describe('a consumer whose jobs fail', () => {
  const redis = useRedis();
  let app: TestQueues;
  afterEach(() => app.close());

  it('[QU-28] waits longer after each failure, and gives the job up after maxDeliveries', async () => {
    app = await openQueues(redis.server.url);
    const retry = { minMs: 60, maxMs: 5_000 };
    const queue = app.queues.get<string>('q', { maxDeliveries: 4, retry });
    const began: number[] = [];
    const ended: number[] = [];
    const events: unknown[] = [];
    await queue.push('a');
    queue.consume(async () => {
      began.push(performance.now());
      await Promise.resolve();
      ended.push(performance.now());
      throw new Error(`failure ${began.length}`);
    });
    app.events.subscribe((event) => event.type === 'queues.process' && events.push(event));
    await waitFor('the last event', () => events.length === 4);
    expect(began).toHaveLength(4);
    const waits = began.slice(1).map((at, i) => at - ended[i]!);
    // A millisecond less: Redis's clock has whole ones.
    for (const [i, from] of [60, 360, 833].entries()) expect(waits[i]).toBeGreaterThanOrEqual(from - 1);
    expect(await queue.deadLetters.list()).toMatchObject([
      { payload: 'a', deliveries: 4, reason: 'Error: failure 4' },
    ]);
    expect(events).toMatchObject([
      { ended: 'retried', deliveries: 1, delayMs: expect.any(Number) },
      { ended: 'retried', deliveries: 2, delayMs: expect.any(Number) },
      { ended: 'retried', deliveries: 3, delayMs: expect.any(Number) },
      { ended: 'dead', deliveries: 4 },
    ]);
    expect(events[3]).not.toHaveProperty('delayMs');
  });

  it('[QU-28] sends no job to the dead letters during an outage of its dependency, and completes all of them afterwards', async () => {
    // A twentieth of the default: thirteen seconds of outage at the least.
    app = await openQueues(redis.server.url, { queues: { retry: { minMs: 50, maxMs: 90_000 } } });
    const queue = app.queues.get<number>('q');
    await queue.pushMany(Array.from({ length: 100 }, (_, i) => i));
    const until = performance.now() + 2_000;
    const done = new Set<number>();
    queue.consume(
      ({ payload }) => {
        if (performance.now() < until) throw new Error('connect ECONNREFUSED');
        done.add(payload);
      },
      { concurrency: 50 },
    );
    await waitFor('all jobs', async () => {
      const { pending, processing, dead } = await queue.counts();
      expect(dead).toBe(0);
      return pending + processing === 0;
    });
    expect(done.size).toBe(100);
    expect(await redis.client.keys('atomic:queue:*')).toEqual([]);
  });

  it('[QU-28] waits by default as the module configures it, and as the queue or the call does', async () => {
    app = await openQueues(redis.server.url, { queues: { retry: { minMs: 10_000, maxMs: 20_000 } } });
    const wait = async (
      retry: object | undefined,
      options: { delayMs?: number },
    ): Promise<number | undefined> => {
      await redis.client.flushall();
      const queue = app.queues.get<string>('q', retry && { retry });
      await queue.push('a');
      const [seconds, micros] = await redis.client.time();
      expect(await (await queue.take())!.retry(options)).toBe(true);
      const [, due] = await redis.client.zrange('atomic:queue:delayed:{q}:q', '0', '0', 'WITHSCORES');
      return due === undefined ? undefined : Number(due) - Number(seconds) * 1_000 - Number(micros) / 1_000;
    };
    const within = (ms: number | undefined, from: number, to: number): void => {
      expect(ms).toBeGreaterThanOrEqual(from - 1);
      // A stall of the machine counts too.
      expect(ms).toBeLessThanOrEqual(to + 5_000);
    };
    within(await wait(undefined, {}), 10_000, 20_000);
    within(await wait({ minMs: 40_000, maxMs: 50_000 }, {}), 40_000, 50_000);
    within(await wait({ maxMs: 30_000 }, {}), 10_000, 30_000);
    within(await wait(undefined, { delayMs: 70_000 }), 70_000, 70_000);
    expect(await wait(undefined, { delayMs: 0 })).toBeUndefined();
  });

  it('[QU-28] refuses an invalid back-off at boot and in the options of the queue', async () => {
    app = await openQueues(redis.server.url);
    const wrong = [
      null,
      5,
      [],
      { minMs: -1 },
      { minMs: 1.5 },
      { minMs: Number.NaN },
      { maxMs: 86_400_001 },
      { maxMs: Infinity },
      { maxMs: '5' },
      { minMs: 2, maxMs: 1 },
      { minMs: 1, factor: 2 },
    ];
    for (const retry of wrong) {
      const given = { retry } as object;
      expect(() => app.queues.get('q', given)).toThrow(InvalidArgumentError);
      await expect(openQueues(redis.server.url, { queues: given })).rejects.toThrow(/retry/);
    }
  });

  it('[QU-33] waits as the job itself says in its own fields, even after a requeue', async () => {
    app = await openQueues(redis.server.url);
    const queue = app.queues.get<string>('q', { maxDeliveries: 2, retry: { minMs: 400, maxMs: 500_000 } });
    const at = async (member: string): Promise<number> => {
      const [seconds, micros] = await redis.client.time();
      const nowMs = Number(seconds) * 1_000 + Number(micros) / 1_000;
      const delayed = await redis.client.zrange('atomic:queue:delayed:{q}:q', '0', '-1', 'WITHSCORES');
      return Number(delayed[delayed.findIndex((one) => one.endsWith(member)) + 1]) - nowMs;
    };
    const day = 86_400_000;
    const [own] = await queue.pushMany(['own'], { retry: { minMs: day, maxMs: day } });
    const [usual] = await queue.pushMany(['usual']);
    const least = await queue.push('least', { retry: { minMs: 3_600_000 } });
    const inTransaction = await app.transactions.run(['k'], (tx) =>
      tx.push(queue, 'tx', { retry: { minMs: day, maxMs: day } }),
    );
    const jobs = [await queue.take(), await queue.take(), await queue.take(), await queue.take()];
    for (const job of jobs) await job!.retry();
    expect(await at(own!)).toBeGreaterThan(day - 30_000);
    expect(await at(inTransaction)).toBeGreaterThan(day - 30_000);
    expect(await at(usual!)).toBeLessThan(3_000);
    // A longest wait that is shorter gives way.
    expect(await at(least)).toBeGreaterThan(3_570_000);

    await redis.client.del('atomic:queue:delayed:{q}:q');
    await redis.client.rpush('atomic:queue:pending:{q}:q', own!);
    await (await queue.take())!.retry();
    expect(await queue.deadLetters.requeue([own!])).toBe(1);
    await (await queue.take())!.retry();
    expect(await at(own!)).toBeGreaterThan(day - 30_000);
  });

  it('[QU-33] refuses a wrong back-off of a job', async () => {
    app = await openQueues(redis.server.url);
    const queue = app.queues.get('q');
    for (const retry of [{ minMs: 2, maxMs: 1 }, { minMs: -1 }, 5, { max: 5 }] as object[]) {
      await expect(queue.push(1, { retry })).rejects.toThrow(InvalidArgumentError);
      await expect(queue.pushMany([1], { retry })).rejects.toThrow(InvalidArgumentError);
      const pushing = app.transactions.run(['k'], (tx) => void tx.push(queue, 1, { retry }));
      await expect(pushing).rejects.toThrow(InvalidArgumentError);
    }
    expect((await queue.counts()).pending).toBe(0);
  });
});
