import { fc } from '../support/property.js';
import { Settled, Verdict } from '../../lib/queues/delivery.js';
import type { QueueJob, ReliableQueue } from '../../lib/index.js';
import { useRedis } from '../support/redis.js';
import { openQueues, type TestQueues } from './queues.js';

const key = (part: string): string => `atomic:queue:${part}:{q}:q`;
const MAX_DELIVERIES = 2;
const LATER_MS = 600_000;

/** The observable state of a job. */
interface ModelJob {
  id: string;
  total: number;
  counted: number;
}

interface Held {
  job: QueueJob<number>;
  fence: number;
  /** The end that it was given, which it keeps. */
  end?: Verdict;
  ended?: Settled;
}

/**
 * The queue as its description has it: every job is in one place, and a delivery is named by its
 * number.
 */
class Model {
  pending: ModelJob[] = [];
  /** In the order in which they were delayed; all are due, or none is. */
  due: ModelJob[] = [];
  delayed: ModelJob[] = [];
  leased = new Map<string, { job: ModelJob; isOver: boolean }>();
  dead: ModelJob[] = [];
  held: Held[] = [];

  take(): ModelJob | undefined {
    const over = [...this.leased.values()].filter(({ isOver }) => isOver).map(({ job }) => job);
    for (const job of over.toSorted((a, b) => (a.id < b.id ? -1 : 1))) {
      this.leased.delete(job.id);
      if (job.counted < MAX_DELIVERIES) return this.lease(job);
      this.dead.push(job);
    }
    const job = this.due.shift() ?? this.pending.shift();
    return job && this.lease(job);
  }

  private lease(job: ModelJob): ModelJob {
    job.total++;
    job.counted++;
    this.leased.set(job.id, { job, isOver: false });
    return job;
  }

  isHeld({ job, fence }: Held): boolean {
    return this.leased.get(job.id)?.job.total === fence;
  }

  /** Result of settling the job; comes from the job itself if it was settled before. */
  end(held: Held, verdict: 'ack' | 'retry', isDelayed = false): Settled {
    if (held.end) return held.end === verdict ? held.ended! : Settled.Lost;
    held.end = verdict;
    return (held.ended = this.settle(held, verdict, isDelayed));
  }

  private settle(held: Held, verdict: 'ack' | 'retry', isDelayed: boolean): Settled {
    if (!this.isHeld(held)) return Settled.Lost;
    const { job } = this.leased.get(held.job.id)!;
    this.leased.delete(job.id);
    if (verdict === 'ack') return Settled.Done;
    if (job.counted >= MAX_DELIVERIES) {
      this.dead.push(job);
      return Settled.Dead;
    }
    (isDelayed ? this.delayed : this.pending).push(job);
    return Settled.Done;
  }
}

const steps = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constant('push' as const), count: fc.integer({ min: 0, max: 3 }) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('pushLater' as const),
        count: fc.integer({ min: 1, max: 3 }),
      }),
    },
    { weight: 5, arbitrary: fc.record({ kind: fc.constant('take' as const), by: fc.nat(2) }) },
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constantFrom(
          'ack' as const,
          'retry' as const,
          'retryLater' as const,
          'extend' as const,
          'ackAndTakeNext' as const,
        ),
        which: fc.nat(20),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('endLeases' as const), by: fc.nat(2) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constantFrom('requeue' as const, 'purge' as const, 'flush' as const, 'due' as const),
        by: fc.nat(2),
      }),
    },
  ),
  { minLength: 5, maxLength: 60 },
);

describe('a queue and its model', () => {
  const redis = useRedis();
  let apps: TestQueues[];
  let queues: ReliableQueue<number>[];

  beforeAll(async () => {
    apps = await Promise.all([0, 1, 2].map(() => openQueues(redis.server.url)));
    queues = apps.map((app) =>
      app.queues.get<number>('q', { maxDeliveries: MAX_DELIVERIES, leaseMs: 600_000 }),
    );
  });
  afterAll(() => Promise.all(apps.map((app) => app.close())));

  it('[QU-20] agree on every step of several processes', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (made) => {
        await redis.client.flushall();
        const model = new Model();
        let pushed = 0;
        const hold = (job: QueueJob<number> | null, expected: ModelJob | undefined): void => {
          expect(job && { id: job.id, deliveries: job.deliveries }).toEqual(
            expected ? { id: expected.id, deliveries: expected.counted } : null,
          );
          if (job && expected) model.held.push({ job, fence: expected.total });
        };
        for (const step of made) {
          if (step.kind === 'push') {
            const ids = await queues[0]!.pushMany(Array.from({ length: step.count }, () => pushed++));
            model.pending.push(...ids.map((id) => ({ id, total: 0, counted: 0 })));
          } else if (step.kind === 'pushLater') {
            const payloads = Array.from({ length: step.count }, () => pushed++);
            const ids = await queues[0]!.pushMany(payloads, { delayMs: LATER_MS });
            model.delayed.push(...ids.map((id) => ({ id, total: 0, counted: 0 })));
          } else if (step.kind === 'due') {
            for (const member of await redis.client.zrange(key('delayed'), '0', '-1'))
              await redis.client.zadd(key('delayed'), 1, member);
            model.due.push(...model.delayed.splice(0));
          } else if (step.kind === 'take') {
            hold(await queues[step.by]!.take(), model.take());
          } else if (step.kind === 'endLeases') {
            for (const [id, lease] of model.leased) {
              lease.isOver = true;
              await redis.client.zadd(key('leases'), 1, id);
            }
          } else if (step.kind === 'requeue') {
            expect(await queues[step.by]!.deadLetters.requeueAll()).toBe(model.dead.length);
            model.pending.push(...(await inOrder(model.dead.splice(0))));
          } else if (step.kind === 'purge') {
            expect(await queues[step.by]!.deadLetters.purgeAll()).toBe(model.dead.splice(0).length);
          } else if (step.kind === 'flush') {
            await redis.client.script('FLUSH');
          } else if ('which' in step) {
            const held = model.held[step.which % Math.max(1, model.held.length)];
            if (!held) continue;
            if (step.kind === 'extend') {
              const isHeld = !held.end && model.isHeld(held);
              expect(await held.job.extend()).toBe(isHeld);
              if (isHeld) model.leased.get(held.job.id)!.isOver = false;
            } else if (step.kind === 'ackAndTakeNext') {
              const expected = model.end(held, 'ack') !== Settled.Lost;
              const { acked, next } = await held.job.ackAndTakeNext();
              expect(acked).toBe(expected);
              hold(next, model.take());
            } else if (step.kind === 'ack') {
              const expected = model.end(held, 'ack') !== Settled.Lost;
              expect(await held.job.ack()).toBe(expected);
            } else {
              const isDelayed = step.kind === 'retryLater';
              const expected = model.end(held, 'retry', isDelayed) !== Settled.Lost;
              expect(await held.job.retry({ delayMs: isDelayed ? LATER_MS : 0 })).toBe(expected);
            }
          }
          const { pending, due, delayed, leased, dead } = model;
          expect(await queues[2]!.counts()).toEqual({
            pending: pending.length + due.length + delayed.length,
            delayed: due.length + delayed.length,
            processing: leased.size,
            dead: dead.length,
          });
          expect(await redis.client.lrange(key('pending'), 0, -1)).toEqual(pending.map(({ id }) => id));
          expect((await redis.client.zrange(key('leases'), '0', '-1')).toSorted()).toEqual(
            [...leased.keys()].toSorted(),
          );
        }
      }),
      { numRuns: 60 },
    );
  }, 120_000);

  /** Jobs that died in the same millisecond are requeued by their ids. */
  async function inOrder(dead: ModelJob[]): Promise<ModelJob[]> {
    const order = await redis.client.lrange(key('pending'), 0, -1);
    for (const job of dead) job.counted = 0;
    return dead.toSorted((a, b) => order.indexOf(a.id) - order.indexOf(b.id));
  }
});
