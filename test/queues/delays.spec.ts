import { setTimeout as sleep } from 'node:timers/promises';
import { InvalidArgumentError, type QueueJob, type ReliableQueue } from '../../lib/index.js';
import { startFaultProxy } from '../../lib/testing/index.js';
import { countCommands } from '../support/command-stats.js';
import { isScript } from '../support/is-script.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { startWorker } from '../support/workers.js';
import { openQueues, type TestQueues } from './queues.js';
import type { Step } from './steps.worker.js';

const DELAYED = 'atomic:queue:delayed:{q}:q';
const NONE = { pending: 0, delayed: 0, processing: 0, dead: 0 };
/** Processes look by themselves every ten seconds. */
const BEFORE_A_LOOK_MS = 8_000;

const deaths: [step: Step, deliveries: number][] = [
  ['pushed for later', 1],
  ['failed, waits for its retry', 2],
];

describe('delayed jobs', () => {
  const redis = useRedis();
  const apps: TestQueues[] = [];
  const open = async (url = redis.server.url): Promise<ReliableQueue<string>> => {
    const app = await openQueues(url);
    apps.push(app);
    return app.queues.get<string>('q');
  };
  afterEach(async () => {
    await Promise.all(apps.splice(0).map((app) => app.close()));
  });

  /** Moves every due time by the same amount. */
  const makeDue = async (): Promise<void> => {
    for (const member of await redis.client.zrange(DELAYED, '0', '-1'))
      await redis.client.zadd(DELAYED, 1, member);
  };
  const blocked = (count: number) =>
    waitFor(`${count} block`, async () =>
      (await redis.client.info('clients')).includes(`blocked_clients:${count}`),
    );
  const drain = async (queue: ReliableQueue<string>): Promise<string[]> => {
    const payloads: string[] = [];
    for (let job = await queue.take(); job; job = await queue.take()) {
      payloads.push(job.payload);
      await job.ack();
    }
    return payloads;
  };

  it('[QU-27] are not taken before their time, and leave nothing behind', async () => {
    const queue = await open();
    const pushedAt = performance.now();
    const id = await queue.push('later', { delayMs: 2_500 });
    await queue.push('now', { delayMs: 0 });
    expect(await queue.counts()).toEqual({ pending: 2, delayed: 1, processing: 0, dead: 0 });
    const now = (await queue.take())!;
    expect(now.payload).toBe('now');
    expect(await queue.take()).toBeNull();
    const later = (await queue.take({ waitMs: 30_000 }))!;
    expect(performance.now() - pushedAt).toBeGreaterThanOrEqual(2_499);
    expect(later).toMatchObject({ id, payload: 'later', deliveries: 1 });
    expect([await now.ack(), await later.ack()]).toEqual([true, true]);
    expect(await queue.counts()).toEqual(NONE);
    expect(await redis.client.keys('atomic:queue:*')).toEqual([]);
  });

  it('[QU-27] are taken in the order in which they were delayed, ahead of waiting jobs', async () => {
    const queue = await open();
    const names = (what: string, count: number): string[] =>
      Array.from({ length: count }, (_, i) => `${what} ${i}`);
    await queue.pushMany(names('turn', 3));
    await Promise.all([
      queue.pushMany(names('a', 150), { delayMs: 600_000 }),
      queue.push('b', { delayMs: 600_000 }),
      queue.push('turn 3'),
      queue.pushMany(names('c', 150), { delayMs: 600_000 }),
    ]);
    await makeDue();
    expect(await drain(queue)).toEqual([...names('a', 150), 'b', ...names('c', 150), ...names('turn', 4)]);
  });

  it('[QU-27] follow Redis’s clock, whatever the clock of the process shows', async () => {
    const queue = await open();
    const clock = jest.spyOn(Date, 'now').mockReturnValue(0);
    try {
      await queue.push('a', { delayMs: 600_000 });
      clock.mockReturnValue(8e12);
      expect(await queue.take()).toBeNull();
    } finally {
      clock.mockRestore();
    }
    const [seconds] = await redis.client.time();
    const [, due] = await redis.client.zrange(DELAYED, '0', '0', 'WITHSCORES');
    expect(Math.abs(Number(due) - Number(seconds) * 1_000 - 600_000)).toBeLessThan(30_000);
  });

  it('[QU-27] wake a waiting process', async () => {
    const [waiting, pushing] = [await open(), await open()];
    const job = waiting.take({ waitMs: 60_000 });
    await blocked(1);
    const pushedAt = performance.now();
    await pushing.push('later', { delayMs: 3_600_000 });
    await pushing.push('soon', { delayMs: 1_000 });
    expect((await job)!.payload).toBe('soon');
    expect(performance.now() - pushedAt).toBeLessThan(BEFORE_A_LOOK_MS);
  });

  it('[QU-27] wake another process when the one that planned to take them is busy', async () => {
    const [app, pushing] = [await openQueues(redis.server.url), await open()];
    apps.push(app);
    const unaware = app.queues.get<string>('q').take({ waitMs: 60_000 });
    await blocked(1);
    const told = (await open()).consume(() => sleep(60_000));
    await blocked(2);
    /** Waits that have ended, of all clients. */
    const waits = async (): Promise<number> =>
      Number(/cmdstat_bzpopmin:calls=(\d+)/.exec(await redis.client.info('commandstats'))?.[1] ?? 0);
    // Redis serves the blocked client that began first. A client begins again when it waits for one
    // queue more.
    const afterOneBegins = async (what: () => unknown): Promise<void> => {
      const before = await waits();
      await what();
      await waitFor('a client to begin again', async () => (await waits()) > before);
      await blocked(2);
    };
    const beginAnew = (name: string): Promise<void> =>
      afterOneBegins(() => {
        const waiting = app.queues.get(name).take({ waitMs: 60_000 });
        waiting.catch(() => undefined);
      });
    await beginAnew('other');
    const pushedAt = performance.now();
    await afterOneBegins(() => pushing.push('later', { delayMs: 3_000 }));
    await beginAnew('another');
    await pushing.push('long');
    expect((await unaware)!.payload).toBe('later');
    // By itself it would look after ten seconds.
    expect(performance.now() - pushedAt).toBeLessThan(BEFORE_A_LOOK_MS);
    await told.stop({ timeoutMs: 0 });
  });

  it('[QU-27] wake another process when the notified one no longer waits', async () => {
    const [leaving, waiting, pushing] = [await open(), await open(), await open()];
    const leave = new AbortController();
    const left = leaving.take({ waitMs: 60_000, signal: leave.signal }).catch(() => 'left');
    await blocked(1);
    const job = waiting.take({ waitMs: 60_000 });
    await blocked(2);
    leave.abort();
    expect(await left).toBe('left');
    const pushedAt = performance.now();
    await pushing.push('later', { delayMs: 1_500 });
    expect((await job)!.payload).toBe('later');
    expect(performance.now() - pushedAt).toBeLessThan(6_000);
  });

  it('[QU-27] all run when many are due at once, each once, over several processes', async () => {
    const queues = [await open(), await open(), await open()];
    const payloads = Array.from({ length: 3_000 }, (_, i) => String(i));
    await queues[0]!.pushMany(payloads, { delayMs: 600_000 });
    await makeDue();
    // One take moves no more than it takes.
    const one = (await queues[1]!.take())!;
    expect(one.payload).toBe('0');
    expect(await queues[0]!.counts()).toMatchObject({ pending: 2_999, delayed: 2_999, processing: 1 });
    const seen: string[] = [one.payload];
    await one.ack();
    for (const queue of queues) queue.consume(({ payload }) => void seen.push(payload), { concurrency: 150 });
    await waitFor('all', async () => {
      const { pending, processing } = await queues[0]!.counts();
      return pending + processing === 0;
    });
    expect(seen.toSorted()).toEqual(payloads.toSorted());
  });

  it('[QU-27] cost an idle process nothing before their time', async () => {
    const queue = await open();
    await queue.push('a', { delayMs: 3_600_000 });
    queue.consume(() => undefined, { concurrency: 20 });
    await blocked(1);
    const commands = await countCommands(redis.client, () => sleep(5_000));
    expect(commands['evalsha'] ?? 0).toBeLessThanOrEqual(2);
    expect(commands['bzpopmin'] ?? 0).toBeLessThanOrEqual(3);
  });

  it.each(deaths)('[QU-27] are not lost when their process is killed: %s', async (step, deliveries) => {
    const survivor = await open();
    const data = { url: redis.server.url, step, leaseMs: 30_000 };
    const process = startWorker({ script: require.resolve('./steps.worker.ts'), data });
    try {
      if (deliveries > 1) {
        expect(await process.next()).toBe('ready');
        await survivor.push('a');
      }
      expect(await process.next()).toBe('there');
    } finally {
      await process.kill();
    }
    expect(await survivor.counts()).toEqual({ pending: 1, delayed: 1, processing: 0, dead: 0 });
    const job = (await survivor.take({ waitMs: 60_000 }))!;
    expect(job.deliveries).toBe(deliveries);
    expect(await job.ack()).toBe(true);
    expect(await survivor.counts()).toEqual(NONE);
  });

  it('[QU-27] are pushed once when the reply is lost', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    const queue = await open(proxy.url);
    await queue.counts();
    const fault = proxy.loseReplies(isScript);
    await queue.push('a', { delayMs: 600_000 });
    expect(fault.count).toBe(1);
    expect(await queue.counts()).toEqual({ pending: 1, delayed: 1, processing: 0, dead: 0 });
    const job = async (): Promise<QueueJob<string>> => {
      await makeDue();
      return (await queue.take())!;
    };
    const held = await job();
    const second = proxy.loseReplies(isScript);
    expect(await held.retry({ delayMs: 600_000 })).toBe(true);
    expect(second.count).toBe(1);
    expect(await queue.counts()).toEqual({ pending: 1, delayed: 1, processing: 0, dead: 0 });
    expect(await (await job()).ack()).toBe(true);
    await proxy.stop();
  });

  it('[QU-27] are refused whole when memory is full, and existing ones can still be taken', async () => {
    const queue = await open();
    await queue.push('a', { delayMs: 600_000 });
    await makeDue();
    await redis.client.config('SET', 'maxmemory', '1');
    try {
      await expect(queue.push('b', { delayMs: 600_000 })).rejects.toThrow(/OOM/);
      expect(await drain(queue)).toEqual(['a']);
    } finally {
      await redis.client.config('SET', 'maxmemory', '0');
    }
    expect(await redis.client.keys('atomic:queue:*')).toEqual([]);
  });

  it('[QU-27] with an invalid delay are refused before any I/O', async () => {
    const queue = await open();
    await queue.push('a');
    const held = (await queue.take())!;
    const commands = await countCommands(redis.client, async () => {
      for (const delayMs of [-1, 0.5, Number.NaN, Infinity, 1e15, '5', null, new Date()]) {
        const options = { delayMs } as { delayMs: number };
        await expect(queue.push('b', options)).rejects.toThrow(InvalidArgumentError);
        await expect(queue.pushMany(['b'], options)).rejects.toThrow(InvalidArgumentError);
        await expect(held.retry(options)).rejects.toThrow(InvalidArgumentError);
      }
    });
    expect(commands['evalsha'] ?? 0).toBe(0);
  });
});

describe('delayed jobs of a Redis that is killed', () => {
  const redis = useRedis({ args: ['--appendonly', 'yes', '--appendfsync', 'always'] });

  it.each(deaths)(
    '[QU-27] keep their time, and are taken by those that waited and those that come: %s',
    async (step, deliveries) => {
      const { url } = redis.server;
      const waits = await openQueues(url);
      const data = { url, step, leaseMs: 30_000 };
      const process = startWorker({ script: require.resolve('./steps.worker.ts'), data });
      try {
        if (deliveries > 1) {
          expect(await process.next()).toBe('ready');
          await waits.queues.get('q').push('a');
        }
        expect(await process.next()).toBe('there');
      } finally {
        await process.kill();
      }
      await waits.queues.get('q').push('later', { delayMs: 6_000 });
      const taken = waits.queues.get<string>('q').take({ waitMs: 60_000 });
      const due = await redis.client.zrange(DELAYED, '0', '-1', 'WITHSCORES');
      await redis.server.kill();
      await redis.server.restart();
      const after = await waitFor('the jobs', () => redis.client.zrange(DELAYED, '0', '-1', 'WITHSCORES'));
      expect(after.slice(-2)).toEqual(due.slice(-2));
      const comes = await openQueues(url);
      const jobs = [await taken, await comes.queues.get<string>('q').take({ waitMs: 60_000 })];
      const [seconds, micros] = (await redis.client.time()) as [number, number];
      expect(seconds * 1_000 + micros / 1_000).toBeGreaterThanOrEqual(Number(due.at(-1)));
      expect(jobs.map((job) => job?.deliveries)).toEqual([deliveries, 1]);
      for (const job of jobs) expect(await job!.ack()).toBe(true);
      expect(await comes.queues.get('q').counts()).toEqual(NONE);
      await Promise.all([waits.close(), comes.close()]);
    },
  );
});
