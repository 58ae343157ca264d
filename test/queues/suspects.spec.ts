import { setTimeout as sleep } from 'node:timers/promises';
import type { ReliableQueue } from '../../lib/index.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { startWorker } from '../support/workers.js';
import type { PoisonData } from './poison.worker.js';
import { openQueues, type TestQueues } from './queues.js';

describe('a job whose process died', () => {
  const redis = useRedis();
  const apps: TestQueues[] = [];
  const open = async (): Promise<TestQueues> => {
    const app = await openQueues(redis.server.url);
    apps.push(app);
    return app;
  };
  afterEach(async () => {
    await Promise.all(apps.splice(0).map((app) => app.close()));
  });

  const leases = (queue: string): string => `atomic:queue:leases:{${queue}}:${queue}`;
  /** Ends leases, and keeps what they say of neighbours. */
  const endLeases = async (queue: string): Promise<void> => {
    const all = await redis.client.zrange(leases(queue), '0', '-1', 'WITHSCORES');
    for (let i = 0; i < all.length; i += 2)
      await redis.client.zadd(leases(queue), all[i + 1]!.endsWith('.5') ? '1.5' : '1', all[i]!);
  };

  const settings: [how: string, data: Partial<PoisonData>][] = [
    ['of a consumer that runs five at a time', {}],
    ['of several queues in one process', { queues: ['q', 'other'], concurrency: 3 }],
    ['of five loops that call take()', { byHand: true }],
  ];
  it.each(settings)(
    '[QU-22] is retried alone: none of its neighbours dies, %s',
    async (_how, given) => {
      const { queues } = await open();
      const data: PoisonData = {
        url: redis.server.url,
        queues: ['q'],
        concurrency: 5,
        // The test ends it, so that no job is lost because the machine stalls.
        leaseMs: 600_000,
        maxDeliveries: 2,
        byHand: false,
        ...given,
      };
      const innocents = Array.from({ length: 12 }, (_, i) => `innocent ${i}`);
      const all = data.queues.map((name) => queues.get<string>(name));
      await all[0]!.pushMany(['poison', ...innocents]);
      for (const other of all.slice(1)) await other.pushMany(innocents);
      const isDone = async (): Promise<boolean> => {
        const counts = await Promise.all(all.map((queue) => queue.counts()));
        return counts.every(({ pending, processing }) => pending + processing === 0);
      };
      for (let deaths = 0; !(await isDone()); deaths++) {
        expect(deaths).toBeLessThan(6);
        const process = startWorker({ script: require.resolve('./poison.worker.ts'), data });
        process.result.catch(() => undefined);
        const isOver = waitFor('all jobs', isDone, 60_000).then(() => process.kill());
        await Promise.race([process.exited, isOver]);
        isOver.catch(() => undefined);
        for (const name of data.queues) await endLeases(name);
      }
      const letters = await Promise.all(all.map((queue) => queue.deadLetters.list()));
      expect(letters.flat()).toMatchObject([
        { payload: 'poison', deliveries: 2, reason: 'its lease ended before it was acknowledged' },
      ]);
    },
    200_000,
  );

  it('[QU-22] is delivered when the process holds no other job, and excludes others while it runs', async () => {
    const { queues } = await open();
    const dying = (await open()).queues.get<string>('q');
    await dying.pushMany(['suspect 1', 'suspect 2']);
    expect([(await dying.take())!.deliveries, (await dying.take())!.deliveries]).toEqual([1, 1]);
    await endLeases('q');

    const running = new Set<string>();
    const together: string[][] = [];
    const run = async ({ payload }: { payload: string }): Promise<void> => {
      running.add(payload);
      together.push([...running].toSorted());
      await sleep(150);
      running.delete(payload);
    };
    const [q, other] = [queues.get<string>('q'), queues.get<string>('other')];
    await other.pushMany(['a', 'b', 'c', 'd']);
    other.consume(run, { concurrency: 2 });
    await q.push('fresh');
    q.consume(run, { concurrency: 3 });
    await waitFor('all jobs', async () => {
      const counts = await Promise.all([q.counts(), other.counts()]);
      return counts.every(({ pending, processing }) => pending + processing === 0);
    });
    for (const suspect of ['suspect 1', 'suspect 2'])
      expect(together.filter((names) => names.includes(suspect))).toEqual([[suspect]]);
    expect(together.some((names) => names.length > 1)).toBe(true);
  });

  it('[QU-22] is excused once, and only if it had neighbours', async () => {
    const take = async (queue: ReliableQueue, concurrency: number): Promise<void> => {
      const app = await open();
      app.queues
        .get(queue.name, { maxDeliveries: 1 })
        .consume(() => new Promise(() => undefined), { concurrency });
      await waitFor('it runs', async () => (await queue.counts()).processing === 1);
      await sleep(50);
    };
    const { queues } = await open();
    const alone = queues.get('alone', { maxDeliveries: 1 });
    await alone.push(1);
    await take(alone, 1);
    await endLeases('alone');
    expect(await alone.take()).toBeNull();
    expect(await alone.deadLetters.list()).toMatchObject([{ deliveries: 1 }]);

    const beside = queues.get('beside', { maxDeliveries: 1 });
    await beside.push(1);
    await take(beside, 2);
    await endLeases('beside');
    expect(await beside.take()).toMatchObject({ deliveries: 2 });
    await endLeases('beside');
    expect(await beside.take()).toBeNull();
    expect(await beside.deadLetters.list()).toMatchObject([{ deliveries: 1 }]);
  });

  it('[QU-22] does not wait for ever for long-running jobs', async () => {
    const { queues } = await open();
    const dying = (await open()).queues.get<string>('q');
    await dying.push('suspect');
    await dying.take();
    const q = queues.get<string>('q');
    const seen: string[] = [];
    let end = (): void => undefined;
    const long = new Promise<void>((resolve) => (end = resolve));
    q.consume(
      async ({ payload }) => {
        seen.push(payload);
        if (payload === 'long') await long;
      },
      { concurrency: 2 },
    );
    await q.push('long');
    await waitFor('the long one', () => seen.includes('long'));
    await redis.client.zadd(leases('q'), 1, (await redis.client.zrange(leases('q'), '0', '0'))[0]!);
    await q.push('another');
    await waitFor('the suspect', () => seen.includes('suspect'));
    expect((await q.counts()).processing).toBeGreaterThan(0);
    end();
    await waitFor('all', async () => (await q.counts()).processing === 0);
  });
});
