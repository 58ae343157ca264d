import {
  AtomicRedis,
  OutcomeUnknownError,
  TransactionTimeoutError,
  type QueueJob,
  type ReliableQueue,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy, type RedisCommand } from 'nestjs-atomic-redis/testing';
import { useApp } from '../support/app.js';
import { isScript } from '../support/is-script.js';
import { holdRequest } from '../support/hold-request.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

const on = (name: string) => ({ match: (command: RedisCommand) => command.name === name });
const NONE = { pending: 0, delayed: 0, processing: 0, dead: 0 };
const LEASES = 'atomic:queue:leases:{q}:q';

describe('a transaction that completes a job when the connection fails', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let atomic: AtomicRedis;
  let queue: ReliableQueue<string>;
  /** Queue of an application without faults. */
  let elsewhere: ReliableQueue<string>;

  const open = async (url: string): Promise<AtomicRedis> => {
    const app = await boot({ connection: url, shutdownTimeoutMs: 300 });
    return app.get(AtomicRedis);
  };

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    atomic = await open(proxy.url);
    queue = atomic.queues.get<string>('q', { leaseMs: 3_000 });
    elsewhere = (await open(redis.server.url)).queues.get<string>('q');
    // Opens the connection.
    await atomic.transactions.run(['other'], (tx) => void tx.write.incr('other'));
  });

  afterEach(async () => {
    proxy.reset();
    await proxy.stop();
  });

  const take = async (): Promise<QueueJob<string>> => {
    await queue.push('a');
    return (await queue.take())!;
  };
  const complete = (job: QueueJob<string>, timeoutMs = 10_000, during?: () => unknown): Promise<void> =>
    atomic.transactions.run(
      ['k'],
      async (tx) => {
        const value = Number(await tx.read.get('k')) + 1;
        await during?.();
        tx.write.set('k', value);
      },
      { completesJob: job, timeoutMs },
    );

  it.each(['loseReplies', 'cutBeforeServer'] as const)(
    '[QU-30] ends the job once, with its effects, when %s strikes EXEC',
    async (fault) => {
      const job = await take();
      const armed = proxy[fault](on('EXEC'));
      await complete(job);
      expect(armed.count).toBe(1);
      expect(await redis.client.get('k')).toBe('1');
      expect(await queue.counts()).toEqual(NONE);
      expect(await job.ack()).toBe(true);
    },
  );

  it('[QU-30] has no effect when its EXEC arrives after the job was given to another consumer', async () => {
    const job = await take();
    let given: QueueJob<string> | null = null;
    let failure: unknown;
    const completing = complete(job, 3_000).catch((error: unknown) => (failure = error));
    await holdRequest(proxy, on('EXEC'), async () => {
      given = await elsewhere.take({ waitMs: 30_000 });
      await waitFor('the end of the transaction', () => failure !== undefined);
    });
    await completing;
    expect(given).toMatchObject({ id: job.id, deliveries: 2 });
    expect(failure).toBeInstanceOf(Error);
    expect(await redis.client.exists('k')).toBe(0);
    expect(await given!.ack()).toBe(true);
  });

  it('[QU-30] has no effect if its callback blocks the event loop past the deadline', async () => {
    const job = await take();
    const blocked = complete(job, 500, () => {
      const until = performance.now() + 700;
      while (performance.now() < until);
    });
    await expect(blocked).rejects.toThrow(TransactionTimeoutError);
    expect(await redis.client.exists('k')).toBe(0);
    expect(await job.ack()).toBe(true);
  });

  it('[QU-30] starts again with an extended lease if the lease ends too early by Redis’s clock', async () => {
    const job = await take();
    let completing!: Promise<void>;
    const [seconds] = await redis.client.time();
    const soon = (Number(seconds) + 2) * 1_000;
    const held = holdRequest(proxy, on('WATCH'), () => redis.client.zadd(LEASES, soon, job.id));
    const used = await countCommands(redis.client, async () => {
      completing = complete(job);
      await held;
      await completing;
    });
    // The script is the one that prolongs the lease: each of the two attempts does.
    expect(used).toMatchObject({ watch: 2, evalsha: 2, exec: 1 });
    expect(await redis.client.get('k')).toBe('1');
    expect(await queue.counts()).toEqual(NONE);
  });

  it('[QU-30] starts after an extension in progress, which would look like a lost lease', async () => {
    // So long that the transaction need not prolong it, which would wait behind the extension.
    await queue.push('a');
    const job = (await queue.take({ leaseMs: 60_000 }))!;
    await job.extend({ leaseMs: 60_000 });
    proxy.delay({ requestMs: 700, ...isScript });
    const exec = proxy.delay({ replyMs: 1_500, ...on('EXEC') });
    const extending = job.extend();
    await complete(job);
    expect(exec.count).toBe(1);
    expect(await extending).toBe(true);
    expect(job.signal.aborted).toBe(false);
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[QU-30] is awaited by a consumer that stops once EXEC was sent', async () => {
    let failure: unknown;
    const consumer = queue.consume((job) => complete(job).catch((error: unknown) => (failure = error)));
    const delayed = proxy.delay({ requestMs: 1_000, ...on('EXEC') });
    await queue.push('a');
    await delayed.triggered;
    await consumer.stop({ timeoutMs: 0 });
    await waitFor('the end of the job', async () => (await elsewhere.counts()).processing === 0);
    expect(failure).toBeUndefined();
    expect(await redis.client.get('k')).toBe('1');
    expect(await elsewhere.counts()).toEqual(NONE);
  });

  it('[QU-30] has an unknown outcome together with the job, which then comes back or is done', async () => {
    const job = await take();
    const lost = proxy.blackHole({ ...on('EXEC'), deliver: true });
    const completing = complete(job, 1_500).catch((error: unknown) => error);
    await lost.triggered;
    proxy.refuseConnections(true);
    proxy.blackHoleNow();
    expect(await completing).toBeInstanceOf(OutcomeUnknownError);
    proxy.refuseConnections(false);
    proxy.reset();
    // It was applied, which only Redis knows: that the job is gone may have another reason.
    await expect(job.ack({ timeoutMs: 20_000 })).rejects.toThrow(OutcomeUnknownError);
    expect(await redis.client.get('k')).toBe('1');
    expect(await elsewhere.counts()).toEqual(NONE);
  });
});
