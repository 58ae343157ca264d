import {
  NotReplicatedError,
  OutcomeUnknownError,
  RedisReplyError,
  RedisUnavailableError,
  type QueueJob,
  type ReliableQueue,
} from '../../lib/index.js';
import { startFaultProxy, startRedisServer, type FaultProxy } from '../../lib/testing/index.js';
import { Redis } from 'ioredis';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { openQueues, type TestQueues } from './queues.js';

const isScript = { match: ({ name }: { name: string }) => name === 'EVALSHA' || name === 'EVAL' };
const isWait = { match: ({ name }: { name: string }) => name === 'BZPOPMIN' };

describe('a queue whose connection fails', () => {
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: TestQueues;
  let other: TestQueues;
  let queue: ReliableQueue<string>;
  /** Queue of another process, past the proxy. */
  let elsewhere: ReliableQueue<string>;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    app = await openQueues(proxy.url);
    other = await openQueues(redis.server.url);
    queue = app.queues.get<string>('q');
    elsewhere = other.queues.get<string>('q');
    await queue.counts();
  });
  afterEach(async () => {
    proxy.reset();
    await Promise.all([app.close(), other.close()]);
    await proxy.stop();
  });

  const counts = () => elsewhere.counts();
  const blocked = () =>
    waitFor('BZPOPMIN blocks', async () =>
      (await redis.client.info('clients')).includes('blocked_clients:1'),
    );

  it('[QU-10] pushes once when the reply is lost, and nothing again when the job is finished meanwhile', async () => {
    const fault = proxy.loseReplies(isScript);
    await queue.push('a');
    expect(fault.count).toBe(1);
    expect(await counts()).toEqual({ pending: 1, delayed: 0, processing: 0, dead: 0 });

    const late = proxy.deliverLate(600, isScript);
    await queue.pushMany(['b', 'c']);
    for (let job = await elsewhere.take(); job; job = await elsewhere.take()) await job.ack();
    expect(await late.delivered).toBe(true);
    expect(await counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
  });

  it('[QU-10] pushes nothing past the time-out', async () => {
    const late = proxy.deliverLate(700, isScript);
    proxy.refuseConnections(true);
    const pushed = queue.push('a', { timeoutMs: 300 });
    await expect(pushed).rejects.toBeInstanceOf(OutcomeUnknownError);
    expect(await late.delivered).toBe(true);
    expect(await counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
  });

  it('[QU-10] takes one job when the reply is lost, and none by a copy that arrives later', async () => {
    await elsewhere.pushMany(['a', 'b', 'c']);
    proxy.loseReplies(isScript);
    expect(await queue.take()).toMatchObject({ payload: 'a', deliveries: 1 });
    const late = proxy.deliverLate(400, isScript);
    expect(await queue.take()).toMatchObject({ payload: 'b', deliveries: 1 });
    await late.delivered;
    expect(await counts()).toEqual({ pending: 1, delayed: 0, processing: 2, dead: 0 });
  });

  it('[QU-10] gives a job whose reply was lost to no caller once another has it', async () => {
    const id = await elsewhere.push('a');
    const fault = proxy.loseReplies(isScript);
    proxy.refuseConnections(true);
    const taking = queue.take();
    await fault.triggered;
    await redis.client.zadd('atomic:queue:leases:{q}:q', 1, id);
    const job = (await elsewhere.take())!;
    proxy.refuseConnections(false);
    expect(await taking).toBeNull();
    expect(await job.ack()).toBe(true);
  });

  it('[QU-10] reports the true result of an acknowledgement whose reply was lost', async () => {
    await elsewhere.pushMany(['a', 'b', 'c']);
    const [a, b, c] = [await queue.take(), await queue.take(), await queue.take()];
    const losing = async <T>(call: () => Promise<T>): Promise<T> => {
      const fault = proxy.loseReplies(isScript);
      const answer = await call();
      expect(fault.count).toBe(1);
      return answer;
    };
    expect(await losing(() => a!.extend())).toBe(true);
    expect(await losing(() => a!.ack())).toBe(true);
    expect(await losing(() => b!.retry())).toBe(true);
    expect(await losing(() => c!.ackAndTakeNext())).toMatchObject({
      acked: true,
      next: { payload: 'b', deliveries: 2 },
    });
    expect(await counts()).toEqual({ pending: 0, delayed: 0, processing: 1, dead: 0 });
  });

  it('[QU-10] does not report a job as lost that an earlier call may have acknowledged', async () => {
    await elsewhere.pushMany(['a', 'b']);
    const [a, b] = [await queue.take(), await queue.take()];
    proxy.loseReplies(isScript);
    proxy.refuseConnections(true);
    await expect(a!.ack({ timeoutMs: 300 })).rejects.toBeInstanceOf(OutcomeUnknownError);
    proxy.refuseConnections(false);
    expect(await counts()).toEqual({ pending: 0, delayed: 0, processing: 1, dead: 0 });
    // The first was applied, which nothing tells any more.
    await expect(a!.ack()).rejects.toBeInstanceOf(OutcomeUnknownError);
    expect(a!.signal.aborted).toBe(false);

    // One that never arrived may be made up for.
    proxy.refuseConnections(true);
    const late = proxy.deliverLate(400, isScript);
    await expect(b!.ack({ timeoutMs: 200 })).rejects.toBeInstanceOf(OutcomeUnknownError);
    await late.delivered;
    proxy.refuseConnections(false);
    expect(await b!.ack()).toBe(true);
    expect(await counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
  });

  it('[QU-10] reports an acknowledgement as done even if the next job taken with it is unreadable', async () => {
    await elsewhere.push('a');
    await other.queues.get('q', { format: 'bytes' }).push(Buffer.from('{'));
    const job = (await queue.take())!;
    let scripts = 0;
    const second = { match: ({ name }: { name: string }) => name === 'EVALSHA' && ++scripts === 2 };
    proxy.loseReplies({ ...second, times: 1 });
    const both = job.ackAndTakeNext({ deduplicate: false });
    expect(await both).toEqual({ acked: true, next: null });
  });

  it('[QU-10] reports it as done to every call that shared a script', async () => {
    const losing = async <T>(calls: () => Promise<T>[]): Promise<T[]> => {
      const fault = proxy.loseReplies(isScript);
      const answers = await Promise.all(calls());
      expect(fault.count).toBe(1);
      return answers;
    };
    const ids = await losing(() => ['a', 'b', 'c', 'd'].map((payload) => queue.push(payload)));
    expect(await counts()).toEqual({ pending: 4, delayed: 0, processing: 0, dead: 0 });
    const jobs = await losing(() => ids.map(() => queue.take()));
    expect(jobs.map((job) => job!.id)).toEqual(ids);
    const [a, b, c, d] = jobs.map((job) => job!);
    await redis.client.zrem('atomic:queue:leases:{q}:q', b!.id);
    expect(await losing(() => [a!.ack(), b!.ack(), c!.retry()])).toEqual([true, false, true]);
    expect(await losing(() => [d!.ackAndTakeNext()])).toMatchObject([{ acked: true, next: { id: c!.id } }]);
    expect(await counts()).toMatchObject({ pending: 0, dead: 0 });
  });

  it('[QU-10] gives the rest of a shared take to its other callers', async () => {
    const [first, second] = await elsewhere.pushMany(['a', 'b']);
    const fault = proxy.loseReplies(isScript);
    proxy.refuseConnections(true);
    const taking = Promise.all([queue.take(), queue.take()]);
    await fault.triggered;
    await redis.client.zadd('atomic:queue:leases:{q}:q', 1, first!);
    expect((await elsewhere.take())!.id).toBe(first);
    proxy.refuseConnections(false);
    expect((await taking).map((job) => job?.id)).toEqual([second, undefined]);
  });

  it('[QU-10] retries once: a late copy does not put the job back a second time', async () => {
    await elsewhere.push('a');
    const job = (await queue.take())!;
    const late = proxy.deliverLate(500, isScript);
    expect(await job.retry()).toBe(true);
    const again = (await elsewhere.take())!;
    expect(await again.ack()).toBe(true);
    expect(await late.delivered).toBe(true);
    expect(await counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
    expect(await elsewhere.take()).toBeNull();
  });

  it('[QU-11] delivers a job at once when the notification of it was lost', async () => {
    const fault = proxy.loseReplies(isWait);
    const waiting = queue.take({ waitMs: 60_000 });
    await blocked();
    const id = await elsewhere.push('a');
    const began = performance.now();
    expect(await waiting).toMatchObject({ id, deliveries: 1 });
    expect(fault.count).toBe(1);
    // It is looked for after ten seconds, and the lease is 30 s.
    expect(performance.now() - began).toBeLessThan(8_000);
    expect(await counts()).toEqual({ pending: 0, delayed: 0, processing: 1, dead: 0 });
  });

  it('[QU-11] loses no job to a BZPOPMIN of a lost connection that arrives long after', async () => {
    const late = proxy.deliverLate(1_500, isWait);
    const waiting = queue.take({ waitMs: 60_000 });
    await late.triggered;
    const first = await elsewhere.push('a');
    expect((await waiting)!.id).toBe(first);
    const second = await elsewhere.push('b');
    expect(await late.delivered).toBe(true);
    // It took away what tells of the job, and not the job.
    expect((await queue.take({ waitMs: 60_000 }))!.id).toBe(second);
  });

  it('[QU-11] continues within seconds on another connection when its waiting connection is dead but open', async () => {
    const waiting = queue.take({ waitMs: 60_000 });
    await blocked();
    proxy.blackHoleNow();
    const began = performance.now();
    const id = await elsewhere.push('a');
    expect((await waiting)!.id).toBe(id);
    // Silence is noticed after 2 s; the rest is for a busy machine.
    expect(performance.now() - began).toBeLessThan(10_000);
  });

  it('[QU-11] continues after a restart of Redis', async () => {
    const server = await startRedisServer({
      binary: process.env.TEST_REDIS_BINARY,
      args: ['--appendonly', 'yes', '--appendfsync', 'always'],
    });
    const own = await openQueues(server.url);
    const jobs = own.queues.get<string>('q');
    const before = await jobs.push('before');
    const held = (await jobs.take())!;
    const waiting = jobs.take({ waitMs: 60_000 });
    const outside = new Redis(server.url);
    await waitFor('BZPOPMIN blocks', async () =>
      (await outside.info('clients')).includes('blocked_clients:1'),
    );
    await server.kill();
    await server.restart();
    const after = await waitFor('a push', () => jobs.push('after'));
    expect((await waiting)!.id).toBe(after);
    expect(held.id).toBe(before);
    expect(await held.ack()).toBe(true);
    outside.disconnect();
    await own.close();
    await server.stop();
  });

  it('[QU-11] works through a SCRIPT FLUSH', async () => {
    await queue.push('a');
    await redis.client.script('FLUSH');
    const job = (await queue.take())!;
    await redis.client.script('FLUSH');
    expect(await job.extend()).toBe(true);
    await redis.client.script('FLUSH');
    expect((await job.ackAndTakeNext()).acked).toBe(true);
    expect(await counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
  });

  it('[QU-12] fails in time without Redis: nothing was pushed, or the outcome is unknown', async () => {
    const job = (await queue.push('a').then(() => queue.take()))!;
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    // Written to a connection of which it is not known yet that it is gone.
    const first = await queue.push('b', { timeoutMs: 200 }).catch((error: unknown) => error);
    expect([RedisUnavailableError, OutcomeUnknownError]).toContain((first as Error).constructor);
    await expect(queue.push('c', { timeoutMs: 200 })).rejects.toBeInstanceOf(RedisUnavailableError);
    await expect(job.ack({ timeoutMs: 200 })).rejects.toBeInstanceOf(RedisUnavailableError);
    proxy.refuseConnections(false);
    expect(await job.ack()).toBe(true);
    expect(await counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
  });

  it('[QU-12] names the job it pushed when too few replicas have it', async () => {
    const durability = { replicas: 1, timeoutMs: 50 };
    const one = await queue.push('a', { durability }).catch((error: unknown) => error);
    expect(one).toBeInstanceOf(NotReplicatedError);
    expect((await queue.take())!.id).toBe((one as NotReplicatedError).result);
    const [beside, without] = await Promise.all([
      queue.push('beside', { durability }).catch((error: unknown) => error),
      queue.push('without'),
    ]);
    // A push with durability goes by itself, so the two may arrive in either order.
    const taken = [(await queue.take())!.id, (await queue.take())!.id];
    expect(new Set(taken)).toEqual(new Set([(beside as NotReplicatedError).result, without]));
    const many = await queue.pushMany(['b', 'c'], { durability }).catch((error: unknown) => error);
    expect([(await queue.take())!.id, (await queue.take())!.id]).toEqual((many as NotReplicatedError).result);
  });

  it('[QU-12] refuses pushes whole when Redis is out of memory, and can be emptied', async () => {
    const deadly = queue.push.bind(queue);
    await elsewhere.pushMany(Array.from({ length: 5 }, (_, i) => String(i)));
    const [a, b] = [(await queue.take())!, (await queue.take())!];
    const once = app.queues.get<string>('q', { maxDeliveries: 1 });
    const dying = (await once.take())!;
    await redis.client.config('SET', 'maxmemory', '1');
    try {
      const refused = await deadly('x').catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(RedisReplyError);
      expect(refused).toMatchObject({ reply: 'OOM', outcome: 'not-applied' });
      await expect(queue.pushMany(['y', 'z'])).rejects.toBeInstanceOf(RedisReplyError);
      expect(await counts()).toEqual({ pending: 2, delayed: 0, processing: 3, dead: 0 });

      expect(await a.extend()).toBe(true);
      expect(await a.ack()).toBe(true);
      expect(await b.retry({ reason: 'why' })).toBe(true);
      expect(await dying.retry()).toBe(true);
      expect(await elsewhere.deadLetters.requeueAll()).toBe(1);
      const { next } = await (await queue.take())!.ackAndTakeNext();
      expect(await next!.ack()).toBe(true);
      for (let left = 2; left > 0; left--) expect(await (await queue.take())!.ack()).toBe(true);
      expect(await counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
    } finally {
      await redis.client.config('SET', 'maxmemory', '0');
    }
  });

  const TAKE_OF_LOST = 'take of what another has lost';
  const keyOf = (part: string): string => `atomic:queue:${part}:{q}:q`;
  const refused: [call: string, run: (held: QueueJob<string>) => Promise<unknown>, parts: string[]][] = [
    ['push', () => queue.push('x'), ['pending', 'jobs']],
    ['pushMany', () => queue.pushMany(['x', 'y']), ['pending', 'jobs']],
    ['take', () => queue.take(), ['pending', 'jobs', 'history', 'leases', 'delayed']],
    ['take, waiting', () => queue.take({ waitMs: 1 }), ['pending', 'jobs', 'history', 'leases', 'delayed']],
    [TAKE_OF_LOST, () => queue.take(), ['pending', 'jobs', 'history', 'leases', 'dead', 'delayed']],
    ['ack', (held) => held.ack(), ['jobs', 'history', 'leases']],
    ['retry', (held) => held.retry(), ['pending', 'jobs', 'history', 'leases', 'dead', 'delayed']],
    [
      'ackAndTakeNext',
      (held) => held.ackAndTakeNext(),
      ['pending', 'jobs', 'history', 'leases', 'dead', 'delayed'],
    ],
    ['extend', (held) => held.extend(), ['history', 'leases']],
  ];

  it.each(refused)(
    '[QU-12] leaves a key of another type untouched, and its own keys too: %s',
    async (call, run, parts) => {
      for (const part of ['pending', 'jobs', 'history', 'leases', 'dead', 'delayed', 'wake']) {
        await redis.client.flushall();
        await elsewhere.pushMany(['a', 'b', 'c']);
        await (await elsewhere.take())!.retry();
        const another = (await elsewhere.take())!;
        const held = (await queue.take())!;
        if (call === TAKE_OF_LOST) await redis.client.zadd(keyOf('leases'), 1, another.id);
        await redis.client.set(keyOf(part), 'foreign');
        const all = async (): Promise<unknown[]> => {
          const keys = (await redis.client.keys('atomic:queue:*')).toSorted();
          return await Promise.all(keys.map(async (key) => [key, await redis.client.dumpBuffer(key)]));
        };
        const before = await all();
        const how = await run(held).then(
          () => 'done',
          (error: unknown) => error,
        );
        if (parts.includes(part)) {
          expect([part, how]).toMatchObject([part, { reply: 'WRONGTYPE' }]);
          expect(await all()).toEqual(before);
        } else {
          expect([part, how]).toEqual([part, 'done']);
        }
        expect(await redis.client.get(keyOf(part))).toBe('foreign');
      }
    },
  );
});
