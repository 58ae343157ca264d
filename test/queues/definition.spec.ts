import { Injectable, Module } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import * as v from 'valibot';
import { z } from 'zod';
import {
  AtomicRedis,
  AtomicRedisModule,
  ConfigurationError,
  defineQueue,
  getQueueToken,
  InjectQueue,
  InvalidArgumentError,
  InvalidPayloadError,
  QueueConsumer,
  type QueueDefinition,
  type QueueJob,
  type ReliableQueue,
  type StandardSchema,
} from '../../lib/index.js';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { openQueues } from './queues.js';

interface Email {
  to: string;
}

const emailQueue = defineQueue<Email>('emails', { maxDeliveries: 2, retry: { minMs: 0, maxMs: 0 } });

const withZod = defineQueue('zod', {
  schema: z.object({ to: z.string().min(1), tries: z.number().default(3), at: z.coerce.date().optional() }),
});
const withValibot = defineQueue('valibot', {
  schema: v.object({ to: v.pipe(v.string(), v.minLength(1)), tries: v.optional(v.number(), 3) }),
});
/** One that takes its time, as a schema that looks something up does. */
const slowly: StandardSchema<Email, { to: string; tries: number }> = {
  '~standard': {
    version: 1,
    vendor: 'test',
    validate: async (value) => {
      await Promise.resolve();
      const to: unknown = (value as Partial<Email> | null)?.to;
      return typeof to === 'string' && to !== ''
        ? { value: { to, tries: 3 } }
        : { issues: [{ message: 'is missing', path: [{ key: 'to' }] }] };
    },
  },
};
const withPromises = defineQueue('promises', { schema: slowly });

@Injectable()
class Mailer {
  readonly sent: string[] = [];
  readonly tried: string[] = [];
  constructor(@InjectQueue(emailQueue) readonly emails: ReliableQueue<Email>) {}

  @QueueConsumer(emailQueue, { concurrency: 2 })
  send(job: QueueJob<Email>): void {
    this.tried.push(job.payload.to);
    if (job.payload.to === 'nobody') throw new Error('no such address');
    this.sent.push(job.payload.to);
  }
}

@Module({ imports: [AtomicRedisModule.forFeature([emailQueue])], providers: [Mailer], exports: [Mailer] })
class MailerModule {}

describe('a queue of defineQueue', () => {
  const redis = useRedis();
  const root = (name?: string) =>
    AtomicRedisModule.forRoot({
      connection: redis.server.url,
      namespace: name ? `${name}:` : 'atomic:',
      ...(name && { name }),
    });

  it('[QU-31] is injected, and consumed with the options of its definition', async () => {
    const app = await Test.createTestingModule({ imports: [root(), MailerModule] }).compile();
    app.useLogger(false);
    await app.init();
    const mailer = app.get(Mailer);
    await mailer.emails.push({ to: 'ada' });
    await mailer.emails.push({ to: 'nobody' });
    await waitFor('both', async () => (await mailer.emails.counts()).dead === 1 && mailer.sent.length === 1);
    // By the definition's maxDeliveries.
    expect(mailer.tried.filter((to) => to === 'nobody')).toHaveLength(2);
    const same = app.get(AtomicRedis).queues.get(emailQueue);
    expect(same.name).toBe('emails');
    expect(await same.deadLetters.list()).toMatchObject([{ payload: { to: 'nobody' }, deliveries: 2 }]);
    await app.close();
  });

  it('[QU-31] belongs to the named registration, and can be overridden in tests', async () => {
    @Injectable()
    class Named {
      constructor(
        @InjectQueue(emailQueue, 'orders') readonly theirs: ReliableQueue<Email>,
        @InjectQueue(emailQueue) readonly ours: ReliableQueue<Email>,
      ) {}
    }
    @Module({
      imports: [
        AtomicRedisModule.forFeature([emailQueue], 'orders'),
        AtomicRedisModule.forFeature([emailQueue]),
      ],
      providers: [Named],
    })
    class NamedModule {}
    const app = await Test.createTestingModule({ imports: [root(), root('orders'), NamedModule] }).compile();
    await app.init();
    const { theirs, ours } = app.get(Named);
    await theirs.push({ to: 'ada' });
    expect(await redis.client.llen('orders:queue:pending:{emails}:emails')).toBe(1);
    expect((await ours.counts()).pending).toBe(0);
    await app.close();

    const fake = { push: () => Promise.resolve('id') };
    const overridden = await Test.createTestingModule({ imports: [root(), NamedModule, root('orders')] })
      .overrideProvider(getQueueToken(emailQueue))
      .useValue(fake)
      .compile();
    expect(overridden.get(Named).ours).toBe(fake);
    await overridden.close();
  });

  it('[QU-31] stops the boot without forFeature, or if forFeature gets a value that is no queue', async () => {
    @Module({ providers: [Mailer] })
    class Forgotten {}
    await expect(Test.createTestingModule({ imports: [root(), Forgotten] }).compile()).rejects.toThrow(
      /queue:emails/,
    );
    expect(() => AtomicRedisModule.forFeature([{ name: 'emails' } as never])).toThrow(ConfigurationError);
    expect(() => AtomicRedisModule.forFeature(['emails' as never])).toThrow(ConfigurationError);
  });

  it('[QU-31] refuses a wrong definition at once', () => {
    const wrong: [name: unknown, options?: object][] = [
      [''],
      [1],
      ['q', { maxDeliveries: 0 }],
      ['q', { schema: {} }],
      ['q', { schema: { '~standard': { version: 2, validate: () => ({}) } } }],
      ['q', { concurrency: 2 }],
    ];
    for (const [name, options] of wrong)
      expect(() => defineQueue(name as string, options)).toThrow(InvalidArgumentError);
  });

  it('[QU-31] takes its options from its definition alone', async () => {
    const app = await openQueues(redis.server.url);
    expect(() => app.queues.get(emailQueue as never, { leaseMs: 500 })).toThrow(
      /definition of a queue has its options/,
    );
    const bytes = app.queues.get(defineQueue('bytes', { format: 'bytes' }));
    await bytes.push(Buffer.from([0xff]));
    expect((await bytes.take())!.payload).toEqual(Buffer.from([0xff]));
    await app.close();
  });
});

describe.each([
  ['zod', withZod as unknown as typeof withPromises],
  ['valibot', withValibot as unknown as typeof withPromises],
  ['an asynchronous schema', withPromises],
])('a queue with a schema by %s', (_, definition) => {
  const redis = useRedis();
  type Definition = QueueDefinition<{ to: string; tries: number }, Email>;
  const open = async () => {
    const app = await openQueues(redis.server.url);
    return { app, queue: app.queues.get(definition as Definition), raw: app.queues.get(definition.name) };
  };
  const failureOf = (call: Promise<unknown>): Promise<unknown> =>
    call.then(
      () => undefined,
      (error: unknown) => error,
    );

  it('[QU-32] refuses a payload that does not fit, before anything is sent', async () => {
    const { app, queue } = await open();
    const { transactions } = app;
    await queue.push({ to: 'ada' });
    const wrong = [{ to: '' }, {}, { to: 1 }, null] as never[];
    const failures: unknown[] = [];
    const used = await countCommands(redis.client, async () => {
      for (const payload of wrong) {
        failures.push(await failureOf(queue.push(payload)));
        failures.push(await failureOf(queue.pushMany([{ to: 'ada' }, payload])));
      }
    });
    expect(used).toEqual({});
    // Behind them: a transaction gives its watched keys back after it has failed.
    for (const payload of wrong) {
      failures.push(
        await failureOf(
          transactions.run(['k'], (tx) => {
            tx.write.set('k', 1);
            tx.push(queue, payload);
          }),
        ),
      );
    }
    expect(failures).toHaveLength(3 * wrong.length);
    for (const failure of failures) {
      expect(failure).toBeInstanceOf(InvalidPayloadError);
      expect(failure).toMatchObject({
        queue: definition.name,
        code: 'INVALID_PAYLOAD',
        outcome: 'not-applied',
        retryable: false,
        issues: [expect.objectContaining({ path: expect.any(String), message: expect.any(String) })],
      });
    }
    expect(await redis.client.exists('k')).toBe(0);
    expect((await queue.counts()).pending).toBe(1);
    await app.close();
  });

  it('[QU-32] gives the schema’s output to consumers, and stores the pushed value', async () => {
    const { app, queue, raw } = await open();
    await queue.push({ to: 'ada' });
    await app.transactions.run(['k'], (tx) => void tx.push(queue, { to: 'bob' }));
    const [ada, bob] = [(await queue.take())!, (await queue.take())!];
    expect([ada.payload, bob.payload]).toEqual([
      { to: 'ada', tries: 3 },
      { to: 'bob', tries: 3 },
    ]);
    await ada.retry({ delayMs: 0 });
    expect((await raw.take())!.payload).toEqual({ to: 'ada' });
    await app.close();
  });

  it('[QU-32] puts a job that does not match the schema into the dead letters with the reason, once, and takes the next', async () => {
    const { app, queue, raw } = await open();
    const bad = await raw.push({ to: 5 });
    await raw.push({ to: 'ada' });
    expect((await queue.take())!.payload.to).toBe('ada');
    const worse = await raw.push({});
    await raw.push({ to: 'bob' });
    const seen: string[] = [];
    const consumer = queue.consume((job) => void seen.push(job.payload.to));
    await waitFor('the good one', () => seen.length === 1);
    await waitFor('the bad one', async () => (await queue.counts()).dead === 2);
    await consumer.stop();
    expect(seen).toEqual(['bob']);
    const letters = await queue.deadLetters.list();
    expect(letters.map(({ id }) => id)).toEqual([bad, worse]);
    for (const { reason, deliveries, payload } of letters) {
      expect(reason).toMatch(/^its payload could not be read: The payload does not fit the schema of queue/);
      expect(reason).toMatch(/to: /);
      expect(deliveries).toBe(1);
      expect(payload).toBeUndefined();
    }
    await app.close();
  });

  it('[QU-32] takes the job behind an invalid one together with an acknowledgement', async () => {
    const { app, queue, raw } = await open();
    await queue.push({ to: 'ada' });
    await queue.push({ to: 'bob' });
    await raw.push({ to: 5 });
    await queue.push({ to: 'eve' });
    const first = (await queue.take())!;
    const { next } = await first.ackAndTakeNext();
    expect(next!.payload).toEqual({ to: 'bob', tries: 3 });
    const after = await next!.ackAndTakeNext();
    const last = after.next ?? (await queue.take());
    expect(last!.payload.to).toBe('eve');
    await app.close();
  });
});

describe('a schema on a queue', () => {
  const boot = useApp();
  const redis = useRedis();

  it('[QU-32] validates the value that consumers will read, so that a value which JSON changes is refused at the push', async () => {
    const app = await openQueues(redis.server.url);
    const strict = app.queues.get(defineQueue('dates', { schema: z.object({ at: z.date() }) }));
    await expect(strict.push({ at: new Date() })).rejects.toThrow(InvalidPayloadError);
    const lenient = app.queues.get(withZod);
    await lenient.push({ to: 'ada', at: new Date(5) });
    expect((await lenient.take())!.payload).toEqual({ to: 'ada', tries: 3, at: new Date(5) });
    await app.close();
  });

  it('[QU-32] is awaited by each of several transactions that wait for one key', async () => {
    const app = await openQueues(redis.server.url);
    const late: StandardSchema<Email> = {
      '~standard': {
        version: 1,
        vendor: 'test',
        validate: async (value) => {
          await new Promise((resolve) => setTimeout(resolve, 20));
          const { to } = value as Email;
          return to === '' ? { issues: [{ message: 'is missing' }] } : { value: { to } };
        },
      },
    };
    const queue = app.queues.get(defineQueue('late', { schema: late }));
    await app.transactions.run(['k'], (tx) => void tx.write.set('k', 0));
    const results = await Promise.allSettled(
      ['a', '', 'b', '', 'c'].map((to) =>
        app.transactions.run(['k'], async (tx) => {
          tx.write.set('k', Number(await tx.read.get('k')) + 1);
          tx.push(queue, { to });
        }),
      ),
    );
    expect(results.map(({ status }) => status)).toEqual([
      'fulfilled',
      'rejected',
      'fulfilled',
      'rejected',
      'fulfilled',
    ]);
    expect(await redis.client.get('k')).toBe('3');
    expect((await queue.counts()).pending).toBe(3);
    await app.close();
  });

  it('[QU-32] names no more issues than a reader can take in', async () => {
    const app = await openQueues(redis.server.url);
    const numbers = app.queues.get(defineQueue('numbers', { schema: z.array(z.number()) }));
    const refused = await numbers.push(Array(9).fill('x') as never).catch((error: unknown) => error);
    expect((refused as InvalidPayloadError).issues).toHaveLength(9);
    expect((refused as InvalidPayloadError).message).toMatch(/0: .*; 4: .*; 4 more$/);
    await app.close();
  });

  it('[QU-32] applies to bytes and JSON, whatever the decorator adds', async () => {
    const seen: unknown[] = [];
    @Injectable()
    class Numbers {
      @QueueConsumer(withValibot, { concurrency: 2, maxDeliveries: 1 })
      take(job: QueueJob<{ to: string; tries: number }>): void {
        seen.push(job.payload);
        throw new Error('once');
      }
    }
    const app = await boot({ connection: redis.server.url }, { providers: [Numbers] });
    const queue = app.get(AtomicRedis).queues.get(withValibot);
    await queue.push({ to: 'ada' });
    await waitFor('the dead letter', async () => (await queue.counts()).dead === 1);
    expect(seen).toEqual([{ to: 'ada', tries: 3 }]);
  });
});
