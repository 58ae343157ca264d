import type { ReliableQueue } from '../../lib/index.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { startWorker } from '../support/workers.js';
import { openQueues, type TestQueues } from './queues.js';
import type { Step } from './steps.worker.js';

/** Does not end while the machine stalls; the tests end leases themselves. */
const LEASE_MS = 30_000;

const key = (part: string): string => `atomic:queue:${part}:{q}:q`;

describe('a queue whose consumers die', () => {
  const redis = useRedis();
  const apps: TestQueues[] = [];

  const open = async (): Promise<ReliableQueue<string>> => {
    const app = await openQueues(redis.server.url);
    apps.push(app);
    return app.queues.get<string>('q', { leaseMs: LEASE_MS, maxDeliveries: 100 });
  };
  afterEach(async () => {
    await Promise.all(apps.splice(0).map((app) => app.close()));
  });

  const steps: [step: Step, deliveries: number | 'none'][] = [
    ['pushed', 1],
    ['woken, not leased', 1],
    ['leased, not known to the consumer', 2],
    ['running', 2],
    ['extended', 2],
    ['done, not acknowledged', 2],
    ['failed, not retried', 2],
    // It was the next to be taken, too.
    ['retried, not known to the consumer', 3],
    ['acknowledged, not known to the consumer', 'none'],
    ['dead, not known to the consumer', 'none'],
  ];

  it.each(steps)('[QU-13] loses no job when its consumer is killed: %s', async (step, deliveries) => {
    const survivor = await open();
    const data = { url: redis.server.url, step, leaseMs: LEASE_MS };
    const process = startWorker({ script: require.resolve('./steps.worker.ts'), data });
    let id: string | undefined;
    try {
      if (step !== 'pushed') {
        expect(await process.next()).toBe('ready');
        await waitFor('BZPOPMIN blocks', async () =>
          (await redis.client.info('clients')).includes('blocked_clients:1'),
        );
        id = await survivor.push('a');
      }
      expect(await process.next()).toBe('there');
    } finally {
      await process.kill();
    }

    if (deliveries === 'none') {
      const isDead = step.startsWith('dead');
      expect(await survivor.counts()).toEqual({
        pending: 0,
        delayed: 0,
        processing: 0,
        dead: isDead ? 1 : 0,
      });
      return;
    }
    const { pending, processing } = await survivor.counts();
    expect(pending + processing).toBe(1);
    for (const leased of await redis.client.zrange(key('leases'), '0', '-1'))
      await redis.client.zadd(key('leases'), 1, leased);
    const job = (await survivor.take({ waitMs: 20_000 }))!;
    expect(job.deliveries).toBe(deliveries);
    if (id) expect(job.id).toBe(id);
    expect(await job.ack()).toBe(true);
    expect(await survivor.counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
  });

  it('[QU-14] gives each of many expired leases to one of several concurrent recoverers', async () => {
    const queues = await Promise.all([open(), open(), open(), open()]);
    const ids = await queues[0].pushMany(Array.from({ length: 300 }, (_, i) => String(i)));
    for (const id of ids) {
      const job = (await queues[0].take({ leaseMs: 600_000 }))!;
      expect(job.id).toBe(id);
    }
    await Promise.all(ids.map((id) => redis.client.zadd(key('leases'), 1, id)));
    const got = await Promise.all(
      queues.map(async (queue) => {
        const jobs = [];
        for (;;) {
          const job = await queue.take({ leaseMs: 600_000 });
          if (!job) return jobs;
          jobs.push(job);
        }
      }),
    );
    const all = got.flat();
    expect(all.map((job) => job.id).toSorted()).toEqual(ids.toSorted());
    expect(new Set(all.map((job) => job.deliveries))).toEqual(new Set([2]));
    for (const job of all) expect(await job.ack()).toBe(true);
  });

  it('[QU-14] does a bounded part of the recovery in each call', async () => {
    const queue = await open();
    const ids = await queue.pushMany(Array.from({ length: 250 }, (_, i) => String(i)));
    for (const _ of ids) await queue.take({ leaseMs: 600_000 });
    // All at their last delivery.
    for (const id of ids) {
      await redis.client.zadd(key('leases'), 1, id);
      await redis.client.hset(key('history'), id, '99:0:0::');
    }
    for (const dead of [100, 200, 250]) {
      expect(await queue.take()).toBeNull();
      expect((await queue.counts()).dead).toBe(dead);
    }
  });

  it('[QU-14] skips jobs whose payload was evicted', async () => {
    const queue = await open();
    const [gone, leased, kept] = await queue.pushMany(['a', 'b', 'c']);
    await redis.client.hdel(key('jobs'), gone!);
    expect((await queue.take())!.id).toBe(leased);
    await redis.client.hdel(key('jobs'), leased!);
    await redis.client.zadd(key('leases'), 1, leased!);
    expect((await queue.take())!.id).toBe(kept);
    expect(await redis.client.zrange(key('leases'), '0', '-1')).toEqual([kept]);
  });
});
