import { setTimeout as sleep } from 'node:timers/promises';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { openQueues, type TestQueues } from './queues.js';

describe('processes waiting for jobs', () => {
  const redis = useRedis();
  const apps: TestQueues[] = [];
  const open = async () => {
    const app = await openQueues(redis.server.url);
    apps.push(app);
    return app.queues;
  };
  afterEach(async () => {
    await Promise.all(apps.splice(0).map((app) => app.close()));
  });
  const blocked = (count: number) =>
    waitFor(`${count} block`, async () =>
      (await redis.client.info('clients')).includes(`blocked_clients:${count}`),
    );
  const connections = async (): Promise<number> =>
    ((await redis.client.client('LIST')) as string).match(/name=nestjs-atomic-redis:default:queue/g)
      ?.length ?? 0;

  it('[QU-26] wait for many queues on one connection, and each queue gets its jobs', async () => {
    const [queues, elsewhere] = [await open(), await open()];
    const names = Array.from({ length: 30 }, (_, i) => `queue ${i}`);
    const seen = new Map<string, number>();
    const consumers = names.map((name) =>
      queues.get<string>(name).consume((job) => void seen.set(name, Number(job.payload))),
    );
    await blocked(1);
    for (let round = 1; round <= 3; round++) {
      for (const name of names) await elsewhere.get(name).push(String(round));
      // Ten seconds is when they would look by themselves.
      await waitFor('all jobs', () => names.every((name) => seen.get(name) === round), 9_000);
    }
    expect(await connections()).toBe(1);
    await Promise.all(consumers.map((consumer) => consumer.stop()));
  });

  it('[QU-26] learn about a queue that joins later as soon as about the first', async () => {
    const [queues, elsewhere] = [await open(), await open()];
    const first = queues.get('first').take({ waitMs: 30_000 });
    await blocked(1);
    const began = performance.now();
    const later = queues.get('later').take({ waitMs: 30_000 });
    await sleep(300);
    await elsewhere.get('later').push(1);
    expect((await later)!.payload).toBe(1);
    // The wait that was under way lasts four seconds.
    expect(performance.now() - began).toBeLessThan(3_000);
    await elsewhere.get('first').push(1);
    expect(await first).not.toBeNull();
  });

  it('[QU-26] send fewer than four commands in ten seconds while nothing happens', async () => {
    const queues = await open();
    queues.get('q').consume(() => undefined, { concurrency: 20 });
    await blocked(1);
    await sleep(500);
    const used = await countCommands(redis.client, () => sleep(10_000));
    const { bzpopmin = 0, evalsha = 0 } = used as { bzpopmin?: number; evalsha?: number };
    expect(bzpopmin + evalsha).toBeGreaterThan(0);
    expect(bzpopmin + evalsha).toBeLessThan(4);
  });

  it('[QU-26] take as many of a burst as they can run, in one round trip', async () => {
    const [queues, elsewhere] = [await open(), await open()];
    let running = 0;
    let release = (): void => undefined;
    const released = new Promise<void>((resolve) => (release = resolve));
    queues.get('q').consume(
      async () => {
        running++;
        await released;
      },
      { concurrency: 50 },
    );
    await blocked(1);
    const used = await countCommands(redis.client, async () => {
      await elsewhere.get('q').pushMany(Array.from({ length: 50 }, (_, i) => i));
      await waitFor('all run', () => running === 50);
    });
    // The push and the take.
    expect(used.evalsha).toBe(2);
    release();
    await waitFor('all', async () => (await elsewhere.get('q').counts()).processing === 0);
  });

  it('[QU-26] are woken once per job', async () => {
    const [one, other, pusher] = [await open(), await open(), await open()];
    const seen: string[] = [];
    let release = (): void => undefined;
    const released = new Promise<void>((resolve) => (release = resolve));
    for (const [name, queues] of Object.entries({ one, other })) {
      queues.get('q').consume(
        async () => {
          seen.push(name);
          await released;
        },
        { concurrency: 2 },
      );
    }
    await blocked(2);
    await pusher.get('q').pushMany([1, 2, 3, 4]);
    // Ten seconds is when they would look by themselves.
    await waitFor('all run', () => seen.length === 4, 8_000);
    expect(seen.toSorted()).toEqual(['one', 'one', 'other', 'other']);
    release();
    await waitFor('all', async () => (await pusher.get('q').counts()).processing === 0);
  });

  it('[QU-26] leave no key of an empty queue, even after they ended', async () => {
    const queues = await open();
    for (let i = 0; i < 20; i++) {
      const reply = queues.get<number>(`reply ${i}`);
      const waiting = reply.take({ waitMs: 10_000 });
      await reply.push(i);
      const job = (await waiting)!;
      expect(await job.ack()).toBe(true);
    }
    expect((await redis.client.keys('*')).filter((key) => !key.startsWith('atomic:operation:'))).toEqual([]);
  });

  it('[QU-26] may be as many as needed, without a warning of Node.js', async () => {
    const warnings: string[] = [];
    const onWarning = ({ name }: Error): void => void warnings.push(name);
    process.on('warning', onWarning);
    const queues = await open();
    const consumer = queues.get('q').consume(() => undefined, { concurrency: 40 });
    const abort = new AbortController();
    const waiting = Array.from({ length: 40 }, () =>
      queues
        .get('other')
        .take({ waitMs: 60_000, signal: abort.signal })
        .catch(() => undefined),
    );
    await blocked(1);
    for (let i = 0; i < 30; i++) await queues.get('q').push(i);
    abort.abort();
    await Promise.all(waiting);
    await consumer.stop();
    process.off('warning', onWarning);
    expect(warnings).toEqual([]);
  });
});
