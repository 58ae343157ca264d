import { BullModule, Processor, WorkerHost } from '@nestjs/bullmq';
import { Injectable, Module, type DynamicModule, type Type } from '@nestjs/common';
import { Cron, Interval, ScheduleModule } from '@nestjs/schedule';
import { Test, type TestingModule } from '@nestjs/testing';
import { Queue, type Job } from 'bullmq';
import { AtomicRedisEvents, AtomicRedisModule, Idempotent } from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { gate, isRunEvent, type RunEvent } from './support.js';

const redis = useRedis();
const apps: TestingModule[] = [];

afterEach(async () => {
  await Promise.all(apps.splice(0).map((app) => app.close()));
});

/** Applications side by side, as the replicas of a deployment are. */
async function startReplicas(count: number, provider: Type, imports: DynamicModule[]): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  for (let i = 0; i < count; i++) {
    // Of its own class: Nest takes equal dynamic modules for one, and each test has a server of its own.
    @Module({ imports: [AtomicRedisModule.forRoot({ connection: redis.server.url }), ...imports] })
    class Replica {}

    const app = await Test.createTestingModule({ imports: [Replica], providers: [provider] }).compile();
    app.useLogger(false);
    app.get(AtomicRedisEvents).subscribe((event) => isRunEvent(event) && events.push(event));
    apps.push(app);
    await app.init();
  }
  return events;
}

describe('an idempotent processor of a queue', () => {
  it('[ID-18] processes a message once that was queued twice; the second job learns that it may try again, and gets the result', async () => {
    interface Email {
      messageId: string;
    }
    const { promise, resolve } = gate();
    const runs: string[] = [];

    @Processor('emails', { concurrency: 2 })
    class Emails extends WorkerHost {
      @Idempotent({ operation: 'emails.send', key: (job: Job<Email>) => job.data.messageId })
      async process(job: Job<Email>): Promise<object> {
        runs.push(job.data.messageId);
        await promise;
        return { sentAs: runs.length };
      }
    }

    const { host, port } = redis.server;
    const connection = { host, port };
    await startReplicas(2, Emails, [
      BullModule.forRoot({ connection }),
      BullModule.registerQueue({ name: 'emails' }),
    ]);
    const queue = new Queue<Email>('emails', { connection });
    try {
      const options = { attempts: 1_000, backoff: { type: 'fixed', delay: 20 } };
      const jobs = await queue.addBulk(
        ['m1', 'm1', 'm2'].map((messageId) => ({ name: 'send', data: { messageId }, opts: options })),
      );
      const now = async () => await Promise.all(jobs.map(async ({ id }) => (await queue.getJob(id!))!));
      const refused = await waitFor('a refusal', async () =>
        (await now()).find(({ failedReason }) => failedReason),
      );
      expect(refused).toMatchObject({
        data: { messageId: 'm1' },
        failedReason: 'A call with this idempotency key is still running',
      });
      resolve();
      const done = await waitFor('the results', async () => {
        const all = await now();
        return all.every(({ returnvalue }) => returnvalue as unknown) && all;
      });
      const results = done.map(({ returnvalue }) => returnvalue as unknown);
      expect(results[0]).toEqual(results[1]);
      expect(runs.toSorted()).toEqual(['m1', 'm2']);
    } finally {
      await queue.close();
    }
  });
});

describe('idempotent jobs of a schedule', () => {
  it('[ID-18] run once for each tick, however many replicas there are', async () => {
    const tick = (lengthMs: number): string => String(Math.floor(Date.now() / lengthMs));
    let runs = 0;

    @Injectable()
    class Reports {
      @Cron('* * * * * *')
      @Idempotent({ operation: 'reports.report', key: () => tick(1_000) })
      async report(): Promise<void> {
        runs++;
      }

      @Interval(150)
      @Idempotent({ operation: 'reports.clean', key: () => tick(500) })
      async clean(): Promise<void> {
        runs++;
      }
    }

    const events = await startReplicas(3, Reports, [ScheduleModule.forRoot()]);
    const recordsOf = (type: RunEvent['type'], job: string): string[] =>
      events
        .filter((event) => event.type === type && event.operation === `reports.${job}`)
        .map(({ record }) => record);
    // Ticks at which more than one replica called; how many do is up to their timers.
    const shared = (job: string): number => {
      const called = new Set(recordsOf('idempotency.duplicate', job));
      return recordsOf('idempotency.run', job).filter((record) => called.has(record)).length;
    };
    await waitFor('three shared ticks of each', () => shared('report') >= 3 && shared('clean') >= 3);
    await Promise.all(apps.splice(0).map((app) => app.close()));
    const ran = [...recordsOf('idempotency.run', 'report'), ...recordsOf('idempotency.run', 'clean')];
    expect(ran).toEqual([...new Set(ran)]);
    expect(runs).toBe(ran.length);
  });
});
