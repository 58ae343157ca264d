import { setTimeout as sleep } from 'node:timers/promises';
import { InvalidArgumentError, RedisUnavailableError } from '../../lib/index.js';
import { startRedisServer } from '../../lib/testing/index.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { startSlowLink } from '../support/slow-link.js';
import { waitFor } from '../support/wait-for.js';
import { openQueues } from './queues.js';

const MB = 1_000_000;

describe('a queue of large payloads', () => {
  const redis = useRedis();
  const closing: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const close of closing.splice(0).toReversed()) await close();
  });
  const open = async (url: string, timeoutMs = 5_000) => {
    const app = await openQueues(url, { timeoutMs, shutdownTimeoutMs: 200 });
    closing.push(() => app.close());
    return app.queues;
  };

  it('[QU-25] delivers them in bounded parts, each whole and in order', async () => {
    const queue = (await open(redis.server.url)).get('q', { format: 'bytes' });
    const payloads = [10, 300_000, 100_000, 200_000, 3 * MB, 0, 262_144, 262_145, 20].map((size, i) =>
      Buffer.alloc(size, i + 1),
    );
    for (const payload of payloads) await queue.push(payload);
    const seen: Buffer[] = [];
    const consumer = queue.consume((job) => void seen.push(job.payload), { concurrency: 1 });
    await waitFor('all', () => seen.length === payloads.length);
    await consumer.stop();
    expect(seen.map((payload, i) => payload.equals(payloads[i]!))).toEqual(payloads.map(() => true));

    await Promise.all(payloads.map((payload) => queue.push(payload)));
    const used = await countCommands(redis.client, async () => {
      const jobs = await Promise.all(payloads.map(() => queue.take()));
      expect(new Set(jobs.map((job) => job!.payload.length)).size).toBe(payloads.length);
    });
    // Payloads above 256 kB arrive separately.
    expect(used.hget).toBeGreaterThan(payloads.length);
    expect(used.evalsha).toBeGreaterThan(2);
  });

  it('[QU-25] delivers a large payload that is taken with the acknowledgement of another job', async () => {
    const queue = (await open(redis.server.url)).get<string>('q');
    await queue.push('small');
    await queue.push('x'.repeat(MB));
    const { acked, next } = await (await queue.take())!.ackAndTakeNext();
    expect(acked).toBe(true);
    expect(next!.payload).toHaveLength(MB);
    expect(await next!.ack()).toBe(true);
  });

  it('[QU-25] delays no other call over a slow link, and gives up no job that can arrive', async () => {
    const link = await startSlowLink(redis.server, 4 * MB);
    closing.push(() => link.stop());
    const direct = (await open(redis.server.url)).get<string>('q');
    const queues = await open(link.url, 5_000);
    const count = 6;
    for (let i = 0; i < count; i++) await direct.push(String(i).repeat(4 * MB));
    const slow = queues.get<string>('q', { leaseMs: 3_000, maxDeliveries: 2 });
    const seen: string[] = [];
    const consumer = slow.consume((job) => void seen.push(job.payload[0]!), { concurrency: count });
    const waits: number[] = [];
    while (seen.length < count) {
      const began = performance.now();
      // On the connection that takes and ends jobs.
      await slow.counts({ timeoutMs: 10_000 });
      waits.push(performance.now() - began);
      await sleep(20);
      expect((await direct.counts()).dead).toBe(0);
    }
    expect(seen.toSorted()).toEqual(['0', '1', '2', '3', '4', '5']);
    // Six payloads take a second each. Behind them, no call but the first would be answered
    // meanwhile.
    expect(waits.filter((ms) => ms < 900).length).toBeGreaterThan(3);
    await consumer.stop();
  });

  it('[QU-25] reports a payload that did not arrive in time, with its size', async () => {
    const link = await startSlowLink(redis.server, MB);
    closing.push(() => link.stop());
    const direct = (await open(redis.server.url)).get<string>('q');
    const slow = (await open(link.url, 2_000)).get<string>('q', { maxDeliveries: 2 });
    const id = await direct.push('x'.repeat(5 * MB));
    await direct.push('small');
    const refused = await slow.take().catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(RedisUnavailableError);
    expect((refused as Error).message).toMatch(/payload of 5000002 bytes did not arrive within 2000 ms/);
    // It went behind the others, which arrive.
    expect((await slow.take({ timeoutMs: 20_000 }))!.payload).toBe('small');
    const consumer = slow.consume(() => undefined);
    await waitFor('the dead letter', async () => (await direct.counts()).dead === 1);
    await consumer.stop();
    expect(await direct.deadLetters.list()).toMatchObject([
      { id, deliveries: 2, reason: expect.stringMatching(/5000002 bytes did not arrive/) as string },
    ]);
  });

  it('[QU-25] refuses a payload larger than the server accepts, before it is sent', async () => {
    const server = await startRedisServer({
      binary: process.env.TEST_REDIS_BINARY,
      args: ['--proto-max-bulk-len', '2mb', '--client-query-buffer-limit', '5mb'],
    });
    closing.push(() => server.stop());
    const queues = await open(server.url);
    const bytes = queues.get('q', { format: 'bytes' });
    const [fits, tooLong] = [Buffer.alloc(2 * 1_024 * 1_024), Buffer.alloc(2 * 1_024 * 1_024 + 1)];
    const text = queues.get<string>('text');
    await bytes.push(fits);
    const beside = text.push('beside');
    for (const call of [
      () => bytes.push(tooLong),
      () => bytes.pushMany([fits, tooLong]),
      () => bytes.pushMany([fits, fits, fits]),
      () => text.push('ä'.repeat(1_024 * 1_024)),
    ])
      await expect(call()).rejects.toBeInstanceOf(InvalidArgumentError);
    await beside;
    await text.push('ä'.repeat(1_024 * 1_024 - 2));
    expect(await bytes.counts()).toEqual({ pending: 1, delayed: 0, processing: 0, dead: 0 });
    expect((await bytes.take())!.payload.equals(fits)).toBe(true);
  });
});
