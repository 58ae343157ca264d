import { BullModule, Processor, WorkerHost } from '@nestjs/bullmq';
import { Injectable, Module, type DynamicModule, type Type } from '@nestjs/common';
import { Cron, Interval, ScheduleModule } from '@nestjs/schedule';
import { Test, type TestingModule } from '@nestjs/testing';
import { Queue, type Job } from 'bullmq';
import { AtomicRedisEvents, AtomicRedisModule, Idempotent, QueueConsumer } from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { startWorker } from '../support/workers.js';
import { CALLED_KEY, RAN_KEY } from './cron-keys.js';
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
    // The module needs its own class: Nest merges equal dynamic modules, and each test has its own
    // server.
    @Module({
      imports: [
        AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:' }),
        ...imports,
      ],
    })
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
  it('[ID-18] processes a message once that was queued twice; the second job is told to retry, and gets the result', async () => {
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
  it('[ID-18] run once for each tick, with any number of replicas', async () => {
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

describe('a scheduled job of two processes', () => {
  it('[ID-18] runs once for each tick that both fire, even when one of them is killed', async () => {
    const script = require.resolve('./cron.worker.ts');
    const start = () => startWorker({ script, data: { url: redis.server.url } });
    const processes = [start(), start()];
    try {
      for (const one of processes) {
        one.result.catch(() => undefined);
        expect(await one.next()).toBe('ready');
      }
      const shared = async (): Promise<number> => {
        const called = await redis.client.lrange(CALLED_KEY, 0, -1);
        return called.length - new Set(called).size;
      };
      await waitFor('three shared ticks', async () => (await shared()) >= 3);
      await processes[0]!.kill();
      const before = await redis.client.llen(RAN_KEY);
      await waitFor('two more ticks', async () => (await redis.client.llen(RAN_KEY)) >= before + 2);
    } finally {
      await Promise.all(processes.map((one) => one.kill()));
    }
    const ran = await redis.client.lrange(RAN_KEY, 0, -1);
    expect(ran).toEqual([...new Set(ran)]);
    const called = new Set(await redis.client.lrange(CALLED_KEY, 0, -1));
    // One that was fired when a process was killed may not have run.
    expect(called.size - ran.length).toBeLessThanOrEqual(processes.length);
  });
});

describe('methods whose result goes to no caller', () => {
  interface Email {
    readonly messageId: string;
  }

  it('[ID-41] a BullMQ job completes if another job handled its message before, whatever the outcome', async () => {
    const runs: string[] = [];

    @Processor('letters')
    class Letters extends WorkerHost {
      @Idempotent({ key: (job: Job<Email>) => job.data.messageId, operation: 'letters.send' })
      async process(job: Job<Email>): Promise<object> {
        runs.push(job.data.messageId);
        return { sentAt: new Date() };
      }
    }

    const { host, port } = redis.server;
    const connection = { host, port };
    await startReplicas(1, Letters, [
      BullModule.forRoot({ connection }),
      BullModule.registerQueue({ name: 'letters' }),
    ]);
    const queue = new Queue<Email>('letters', { connection });
    try {
      const jobs = await queue.addBulk(
        ['m1', 'm1', 'm2'].map((messageId) => ({ name: 'send', data: { messageId } })),
      );
      const states = await waitFor('all jobs', async () => {
        const now = await Promise.all(jobs.map(({ id }) => queue.getJobState(id!)));
        return now.every((state) => state === 'completed' || state === 'failed') && now;
      });
      expect(states).toEqual(['completed', 'completed', 'completed']);
      expect(runs).toEqual(['m1', 'm2']);
    } finally {
      await queue.close();
    }
  });

  it('[ID-41] a queue job and a schedule tick succeed if they were done before', async () => {
    const results: unknown[] = [];
    let runs = 0;

    @Injectable()
    class Jobs {
      @QueueConsumer('parcels')
      @Idempotent({ key: () => 'one', operation: 'parcels.ship' })
      async ship(): Promise<Date> {
        return new Date(++runs);
      }

      @Cron('0 0 1 1 *')
      @Idempotent({ key: () => 'tick', operation: 'reports.send' })
      async report(): Promise<Map<string, number>> {
        return new Map([['run', ++runs]]);
      }

      @Idempotent({ key: () => 'awaited', operation: 'reports.make' })
      async make(): Promise<Date> {
        return new Date(++runs);
      }

      @Idempotent({ key: () => 'optional', operation: 'reports.note', result: 'optional' })
      async note(): Promise<Date> {
        return new Date(++runs);
      }
    }

    await startReplicas(1, Jobs, [ScheduleModule.forRoot()]);
    const jobs = apps[0]!.get(Jobs);
    for (const call of [() => jobs.ship(), () => jobs.report(), () => jobs.note()]) {
      await call();
      results.push(await call());
    }
    expect(results).toEqual([undefined, undefined, undefined]);
    await jobs.make();
    await expect(jobs.make()).rejects.toMatchObject({ code: 'IDEMPOTENCY_RESULT_UNAVAILABLE' });
    expect(runs).toBe(4);
  });

  it('[ID-41] a result that can no longer be decrypted does not fail a message', async () => {
    @Injectable()
    class Jobs {
      @Idempotent({ key: () => 'one', operation: 'parcels.ship', result: 'optional' })
      async ship(): Promise<string> {
        return 'shipped';
      }
    }
    const start = async (isReadable: boolean): Promise<Jobs> => {
      const encryption = {
        encrypt: (bytes: Buffer) => bytes,
        decrypt: (bytes: Buffer) => {
          if (isReadable) return bytes;
          throw new Error('the key is gone');
        },
      };
      @Module({
        imports: [
          AtomicRedisModule.forRoot({
            connection: redis.server.url,
            namespace: 'atomic:',
            idempotency: { encryption },
          }),
        ],
        providers: [Jobs],
      })
      class Replica {}
      const app = await Test.createTestingModule({ imports: [Replica] }).compile();
      app.useLogger(false);
      apps.push(app);
      await app.init();
      return app.get(Jobs);
    };
    const [first, second] = [await start(true), await start(false)];
    expect(await first.ship()).toBe('shipped');
    expect(await first.ship()).toBe('shipped');
    expect(await second.ship()).toBeUndefined();
  });
});
