import { Logger } from '@nestjs/common';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { useQueues } from './queues.js';

describe('a consumer that is stopped', () => {
  const redis = useRedis();
  const app = useQueues(redis);

  it.each([1, 5, 150])(
    '[QU-24] returns %i jobs in their order, with their earlier deliveries',
    async (concurrency) => {
      const queue = app.queues.get<number>('q', { maxDeliveries: 1 });
      const all = Array.from({ length: concurrency + 3 }, (_, i) => i);
      const ids = await queue.pushMany(all);
      let running = 0;
      const consumer = queue.consume(
        () => {
          running++;
          return new Promise(() => undefined);
        },
        { concurrency },
      );
      await waitFor('all run', () => running === concurrency);
      await consumer.stop({ timeoutMs: 50 });
      expect(await redis.client.lrange('atomic:queue:pending:{q}:q', 0, -1)).toEqual(ids);
      const first = (await queue.take())!;
      expect(first).toMatchObject({ id: ids[0], deliveries: 1 });
      expect(await first.ack()).toBe(true);
      expect((await queue.counts()).dead).toBe(0);
    },
  );

  it('[QU-24] stops within its own handler, whose job is settled normally', async () => {
    const queue = app.queues.get<number>('q');
    await queue.pushMany([1, 2, 3]);
    const begun: number[] = [];
    let others = 0;
    const consumer = queue.consume(
      async ({ payload }) => {
        begun.push(payload);
        if (payload === 2) {
          await new Promise((resolve) => setTimeout(resolve, 100));
          others++;
        } else {
          await waitFor('the other runs', () => begun.length === 2);
          await consumer.stop({ timeoutMs: 60_000 });
          // It waited for the other one, and not for itself.
          expect(others).toBe(1);
        }
      },
      { concurrency: 2 },
    );
    await consumer.ended();
    expect(begun).toEqual([1, 2]);
    expect(await queue.counts()).toEqual({ pending: 1, delayed: 0, processing: 0, dead: 0 });
  });

  it('[QU-15] logs an error of a handler that has settled its job', async () => {
    const errors: string[] = [];
    const silent = () => undefined;
    Logger.overrideLogger({ log: silent, warn: silent, error: (text: string) => errors.push(text) });
    try {
      const queue = app.queues.get<number>('q');
      const id = await queue.push(1);
      const consumer = queue.consume(async (job) => {
        await job.ack();
        void consumer.stop();
        throw new RangeError('the caller must know');
      });
      await consumer.ended();
      expect(errors).toEqual([
        `The handler of job ${id} of queue "q" ended the job, and then threw: RangeError: the caller must know`,
      ]);
      expect(await queue.counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
    } finally {
      Logger.overrideLogger(false);
    }
  });

  it('[QU-16] and its handler extend one lease: neither shortens it or reports it as lost too early', async () => {
    const queue = app.queues.get<number>('q', { leaseMs: 3_000 });
    await queue.push(1);
    const endOfLease = async (id: string): Promise<number> =>
      Number(await redis.client.zscore('atomic:queue:leases:{q}:q', id));
    let aborted: boolean | undefined;
    const ends: number[] = [];
    const consumer = queue.consume(async (job) => {
      expect(await job.extend({ leaseMs: 60_000 })).toBe(true);
      ends.push(await endOfLease(job.id));
      // Longer than its own lease, in which nothing can be renewed.
      const until = performance.now() + 3_300;
      while (performance.now() < until);
      // In which it would be.
      await new Promise((resolve) => setTimeout(resolve, 1_300));
      expect(await job.extend({ leaseMs: 1_000 })).toBe(true);
      ends.push(await endOfLease(job.id));
      aborted = job.signal.aborted;
    });
    await waitFor('its end', async () => aborted !== undefined && (await queue.counts()).processing === 0);
    expect(aborted).toBe(false);
    expect(ends[1]).toBe(ends[0]);
    await consumer.stop();
  });
});
