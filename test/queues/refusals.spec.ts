import { AtomicRedisEvents, ReliableQueueService, type ReliableQueue } from '../../lib/index.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { startWorker } from '../support/workers.js';
import { Mails, openMails, type IdempotentData } from './mails.js';
import { openQueues, useQueues } from './queues.js';

class Refusal extends Error {
  constructor(
    readonly retryable: unknown,
    readonly retryAfterMs: unknown,
    options?: ErrorOptions,
  ) {
    super('not now', options);
  }
}

describe('a refusal with a retry time', () => {
  const redis = useRedis();
  const app = useQueues(redis);

  it('[QU-23] returns the job until then, and counts no delivery', async () => {
    const queue = app.queues.get<string>('q', { maxDeliveries: 1 });
    const seen: [payload: string, deliveries: number, at: number][] = [];
    await queue.pushMany(['refused', 'next']);
    queue.consume(({ payload, deliveries }) => {
      seen.push([payload, deliveries, performance.now()]);
      if (payload === 'refused' && seen.length < 8) throw new Refusal(true, 300);
    });
    await waitFor('all jobs', async () => {
      const { pending, processing } = await queue.counts();
      return pending + processing === 0;
    });
    const refused = seen.filter(([payload]) => payload === 'refused');
    expect(refused.map(([, deliveries]) => deliveries)).toEqual([1, 1, 1, 1, 1, 1, 1]);
    for (const [i, [, , at]] of refused.entries())
      if (i > 0) expect(at - refused[i - 1]![2]).toBeGreaterThanOrEqual(299);
    // The others do not wait for it.
    expect(seen.findIndex(([payload]) => payload === 'next')).toBeLessThan(seen.length - 1);
    expect(await queue.counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
    expect(await redis.client.keys('atomic:queue:*')).toEqual([]);
  });

  it('[QU-23] puts the job at the head of the queue, and counts it as pending until then', async () => {
    const queue = app.queues.get<string>('q');
    await queue.pushMany(['refused', 'next']);
    const consumer = queue.consume(() => {
      void consumer.stop();
      throw new Refusal(true, 150);
    });
    await consumer.ended();
    expect(await queue.counts()).toEqual({ pending: 2, delayed: 1, processing: 0, dead: 0 });
    await waitFor('its time', async () => {
      const [[id, due]] = [
        await redis.client.zrange('atomic:queue:delayed:{q}:q', '0', '0', 'WITHSCORES'),
      ] as [[string, string]];
      const [seconds] = await redis.client.time();
      return id !== undefined && Number(seconds) * 1_000 > Number(due);
    });
    expect([(await queue.take())!.payload, (await queue.take())!.payload]).toEqual(['refused', 'next']);
  });

  const errors: [what: string, error: unknown, refused: boolean][] = [
    ['retryable, with a time', new Refusal(true, 60_000), true],
    ['caused by such an error', new Error('sending failed', { cause: new Refusal(true, 60_000) }), true],
    ['an object', { retryable: true, retryAfterMs: 60_000 }, true],
    ['not retryable', new Refusal(false, 60_000), false],
    ['without a time', new Refusal(true, undefined), false],
    ['with an invalid time', new Refusal(true, Number.NaN), false],
    ['with a past time', new Refusal(true, -1), false],
    ['with a time in words', new Refusal(true, '60000'), false],
    [
      'that cannot be inspected',
      Object.defineProperty({}, 'retryable', {
        get: () => {
          throw new Error('on purpose');
        },
      }),
      false,
    ],
  ];
  it.each(errors)('[QU-23] is distinguished from a failure: %s', async (_what, error, refused) => {
    const queue = app.queues.get<string>('q', { maxDeliveries: 1 });
    await queue.push('a');
    const consumer = queue.consume(() => {
      void consumer.stop();
      throw error;
    });
    await consumer.ended();
    const [delayed, dead] = refused ? [1, 0] : [0, 1];
    expect(await queue.counts()).toEqual({ pending: delayed, delayed, processing: 0, dead });
  });

  it('[QU-23] wakes a waiting process, which takes the job at that time', async () => {
    const other = await openQueues(redis.server.url);
    const queue = app.queues.get<string>('q');
    await queue.push('a');
    const began = performance.now();
    let runs = 0;
    const consumer = queue.consume(() => {
      runs++;
      void consumer.stop();
      throw new Refusal(true, 1_000);
    });
    // Another process that waits by then may get the job first.
    await waitFor('it runs', () => runs === 1);
    const waiting = other.queues.get<string>('q').take({ waitMs: 60_000 });
    await consumer.ended();
    expect(await waiting).toMatchObject({ payload: 'a', deliveries: 1 });
    // Long before it would have looked by itself.
    expect(performance.now() - began).toBeLessThan(8_000);
    await other.close();
  });
});

describe('a consumer whose handler is idempotent', () => {
  const redis = useRedis();

  const untilEmpty = (queue: ReliableQueue<string>): Promise<unknown> =>
    waitFor('its end', async () => {
      expect(await queue.counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
      return true;
    });

  const pairs: [how: string, data: Omit<IdempotentData, 'url'>][] = [
    ['equal leases', { queueLeaseMs: 1_600, idempotencyLeaseMs: 1_600, isInner: false }],
    ['a short lease of the job', { queueLeaseMs: 1_600, idempotencyLeaseMs: 7_000, isInner: false }],
    ['a short lease of the run', { queueLeaseMs: 2_500, idempotencyLeaseMs: 1_600, isInner: false }],
    ['the key on an inner method', { queueLeaseMs: 1_600, idempotencyLeaseMs: 7_000, isInner: true }],
  ];

  it.each(pairs)('[QU-23] sends no job to the dead letters when it is killed: %s', async (_how, given) => {
    const data = { url: redis.server.url, ...given };
    const survivor = await openMails(data);
    const queue = survivor.get(ReliableQueueService).get<string>('mails', { maxDeliveries: 2 });
    const deferred: number[] = [];
    survivor.get(AtomicRedisEvents).subscribe((event) => {
      if (event.type === 'queues.process' && event.ended === 'deferred') deferred.push(event.deliveries);
    });
    Mails.sent.length = 0;
    const process = startWorker({ script: require.resolve('./refusals.worker.ts'), data });
    process.result.catch(() => undefined);
    await queue.push('a');
    expect(await process.next()).toBe('begun');
    await process.kill();
    await survivor.init();
    await waitFor('the mail', () => Mails.sent.length > 0);
    await untilEmpty(queue);
    expect(Mails.sent).toEqual(['a']);
    if (data.idempotencyLeaseMs > 2 * data.queueLeaseMs) expect(deferred.length).toBeGreaterThan(0);
    await survivor.close();
  });

  it('[QU-23] sends no job to the dead letters when it is stopped in the middle of one', async () => {
    const data = { url: redis.server.url, queueLeaseMs: 2_000, idempotencyLeaseMs: 3_000, isInner: false };
    const [stopped, other] = [await openMails(data), await openMails(data)];
    const queue = other.get(ReliableQueueService).get<string>('mails', { maxDeliveries: 2 });
    Mails.sent.length = 0;
    let begun = 0;
    Mails.begin = () => (++begun === 1 ? new Promise(() => undefined) : undefined);
    await stopped.init();
    await queue.push('a');
    await waitFor('it runs', () => begun === 1);
    await stopped.close();
    await other.init();
    await waitFor('the mail', () => Mails.sent.length > 0);
    await untilEmpty(queue);
    expect(Mails.sent).toEqual(['a']);
    await other.close();
  });
});
