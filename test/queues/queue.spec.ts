import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import {
  LeaseLostError,
  ModuleClosedError,
  ReliableQueueService,
  IllegalTransactionStateError,
  TransactionService,
  type ReliableQueue,
} from '../../lib/index.js';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { expectWrongArguments } from '../support/refused-calls.js';
import { waitFor } from '../support/wait-for.js';
import { inTransaction } from '../support/in-transaction.js';
import { openQueues, type TestQueues } from './queues.js';

interface Email {
  to: string;
}

describe('ReliableQueue', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestQueues;
  let queues: ReliableQueueService;
  let emails: ReliableQueue<Email>;

  beforeAll(async () => {
    app = await openQueues(redis.server.url);
    ({ queues } = app);
    emails = queues.get<Email>('emails');
  });
  afterAll(() => app.close());

  /** A lease that is over, without waiting for it. */
  const endLeases = async (queue = 'emails'): Promise<void> => {
    const leases = `atomic:queue:leases:{${queue}}:${queue}`;
    for (const id of await redis.client.zrange(leases, '0', '-1')) await redis.client.zadd(leases, 1, id);
  };

  it('[QU-1] delivers jobs in their order, once each, and never again after an acknowledgement', async () => {
    const id = await emails.push({ to: 'a' });
    const [second, third] = await emails.pushMany([{ to: 'b' }, { to: 'c' }]);
    expect(await emails.counts()).toEqual({ pending: 3, delayed: 0, processing: 0, dead: 0 });

    const first = (await emails.take())!;
    expect(first).toMatchObject({ id, payload: { to: 'a' }, deliveries: 1 });
    expect((await emails.take())?.id).toBe(second);
    expect((await emails.take())?.id).toBe(third);
    expect(await emails.take()).toBeNull();
    expect(await emails.counts()).toEqual({ pending: 0, delayed: 0, processing: 3, dead: 0 });

    expect(await first.ack()).toBe(true);
    expect(await emails.counts()).toEqual({ pending: 0, delayed: 0, processing: 2, dead: 0 });
    await endLeases();
    expect([(await emails.take())?.id, (await emails.take())?.id, await emails.take()]).toEqual([
      ...[second!, third!].toSorted(),
      null,
    ]);
  });

  it('[QU-1] leaves nothing behind for finished jobs but keys that expire', async () => {
    await emails.pushMany([{ to: 'a' }, { to: 'b' }]);
    const first = (await emails.take())!;
    await first.retry({ reason: 'once' });
    for (let job = await emails.take(); job; job = await emails.take()) await job.ack();
    const left = await redis.client.keys('*');
    for (const key of left)
      expect({ key, ttl: await redis.client.pttl(key) }).toEqual({ key, ttl: expect.any(Number) });
    expect(left.filter((key) => !key.startsWith('atomic:operation:'))).toEqual([]);
    for (const key of left) expect(await redis.client.pttl(key)).toBeGreaterThan(0);
  });

  it('[QU-2] treats equal payloads as different jobs', async () => {
    await emails.pushMany([{ to: 'a' }, { to: 'a' }]);
    const [one, other] = [(await emails.take())!, (await emails.take())!];
    expect(one.id).not.toBe(other.id);
    expect(await one.ack()).toBe(true);
    await endLeases();
    expect((await emails.take())?.id).toBe(other.id);
  });

  it('[QU-3] gives a job to another caller when its lease has ended, and the first can no longer change it', async () => {
    await emails.push({ to: 'a' });
    const stale = (await emails.take())!;
    await endLeases();
    const fresh = (await emails.take())!;
    expect(fresh).toMatchObject({ id: stale.id, deliveries: 2 });

    expect(await stale.extend()).toBe(false);
    expect(stale.signal.reason).toBeInstanceOf(LeaseLostError);
    expect(await stale.retry()).toBe(false);
    expect(await stale.ack()).toBe(false);
    expect((await stale.ackAndTakeNext()).acked).toBe(false);
    expect(await emails.counts()).toEqual({ pending: 0, delayed: 0, processing: 1, dead: 0 });
    expect(fresh.signal.aborted).toBe(false);
    expect(await fresh.ack()).toBe(true);
    expect(await emails.counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
  });

  it('[QU-3] refuses an acknowledgement of a job that another consumer has by now, or that has no lease', async () => {
    await emails.push({ to: 'a' });
    const stale = (await emails.take())!;
    await endLeases();
    const fresh = (await emails.take())!;
    expect(await stale.ack()).toBe(false);
    expect(await fresh.ack()).toBe(true);
    await emails.push({ to: 'b' });
    const lost = (await emails.take())!;
    await redis.client.del('atomic:queue:leases:{emails}:emails');
    expect(await lost.ack()).toBe(false);
    expect(await redis.client.hkeys('atomic:queue:jobs:{emails}:emails')).toEqual([lost.id]);
  });

  it('[QU-3] accepts the acknowledgement of a delivery whose lease is over, as long as no other caller has the job', async () => {
    await emails.push({ to: 'a' });
    const job = (await emails.take())!;
    await endLeases();
    expect(await job.extend()).toBe(true);
    expect(await emails.take()).toBeNull();
    await endLeases();
    expect(await job.ack()).toBe(true);
  });

  it('[QU-3] measures leases by Redis’s clock', async () => {
    await emails.push({ to: 'a' });
    const job = (await emails.take({ leaseMs: 100 }))!;
    const again = await emails.take({ waitMs: 10_000 });
    expect(again).toMatchObject({ id: job.id, deliveries: 2 });
  });

  it('[QU-4] puts a failed job at the end, and after maxDeliveries into the dead letters with the reason', async () => {
    const three = queues.get<Email>('emails', { maxDeliveries: 3 });
    const id = await three.push({ to: 'poison' });
    const other = await three.push({ to: 'fine' });
    expect(await (await three.take())!.retry({ reason: 'first' })).toBe(true);
    const fine = (await three.take())!;
    expect(fine.id).toBe(other);
    await fine.ack();
    await (await three.take())!.retry({ reason: 'second' });
    const last = (await three.take())!;
    expect(last).toMatchObject({ id, deliveries: 3 });
    expect(await last.retry({ reason: 'x'.repeat(600) })).toBe(true);
    expect(await three.take()).toBeNull();
    expect(await three.counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 1 });
    const [letter, ...rest] = await three.deadLetters.list();
    expect(rest).toEqual([]);
    expect(letter).toEqual({
      id,
      payload: { to: 'poison' },
      bytes: Buffer.from('{"to":"poison"}'),
      deliveries: 3,
      reason: 'x'.repeat(500),
      diedAt: expect.any(Date),
    });
    const [seconds] = await redis.client.time();
    expect(Math.abs(letter!.diedAt.getTime() / 1_000 - Number(seconds))).toBeLessThan(60);
  });

  it('[QU-4] keeps a reason valid text when its cut would split a character', async () => {
    const once = queues.get<Email>('emails', { maxDeliveries: 1 });
    await once.pushMany([{ to: 'a' }, { to: 'b' }]);
    const [a, b] = [(await once.take())!, (await once.take())!];
    expect(await Promise.all([a.retry({ reason: `${'x'.repeat(499)}😀` }), b.ack()])).toEqual([true, true]);
    expect((await once.deadLetters.list())[0]!.reason).toBe(`${'x'.repeat(499)}\uFFFD`);
  });

  it('[QU-4] keeps the last reason', async () => {
    const twice = queues.get<Email>('emails', { maxDeliveries: 2 });
    await twice.push({ to: 'a' });
    await (await twice.take())!.retry({ reason: 'why' });
    await (await twice.take())!.retry();
    expect(await twice.deadLetters.list()).toMatchObject([{ deliveries: 2, reason: 'why' }]);
  });

  it('[QU-4] puts a job whose process dies each time into the dead letters', async () => {
    const two = queues.get<Email>('emails', { maxDeliveries: 2 });
    const id = await two.push({ to: 'killer' });
    await two.take();
    await endLeases();
    expect((await two.take())?.deliveries).toBe(2);
    await endLeases();
    expect(await two.take()).toBeNull();
    expect(await two.deadLetters.list()).toMatchObject([
      { id, deliveries: 2, reason: 'its lease ended before it was acknowledged' },
    ]);
  });

  it('[QU-4] puts an unreadable job into the dead letters, and takes the next', async () => {
    const bytes = queues.get('emails', { format: 'bytes' });
    const broken = await bytes.push(Buffer.from('{"to":'));
    const alsoBroken = await bytes.push(Buffer.from([0xff]));
    const whole = await emails.push({ to: 'a' });
    expect((await emails.take())?.id).toBe(whole);
    // In one millisecond they have no order.
    const letters = new Map((await emails.deadLetters.list()).map((letter) => [letter.id, letter]));
    expect(letters.size).toBe(2);
    expect(letters.get(broken)).toMatchObject({ payload: undefined, deliveries: 1 });
    expect(letters.get(broken)!.reason).toMatch(/^its payload could not be read: /);
    expect(letters.get(alsoBroken)).toMatchObject({ payload: undefined, bytes: Buffer.from([0xff]) });
  });

  describe('dead letters', () => {
    const kill = async (count: number): Promise<string[]> => {
      const one = queues.get<Email>('emails', { maxDeliveries: 1 });
      const ids = await one.pushMany(Array.from({ length: count }, (_, i) => ({ to: String(i) })));
      for (let i = 0; i < count; i++) await (await one.take())!.retry({ reason: `reason ${i}` });
      return ids;
    };

    it('[QU-5] are listed page by page, in the order they died', async () => {
      await kill(3);
      const all = await emails.deadLetters.list();
      expect(new Set(all.map(({ payload }) => payload?.to))).toEqual(new Set(['0', '1', '2']));
      expect(all.map(({ diedAt }) => +diedAt)).toEqual(
        all.map(({ diedAt }) => +diedAt).toSorted((a, b) => a - b),
      );
      expect(await emails.deadLetters.list({ limit: 2 })).toEqual(all.slice(0, 2));
      expect(await emails.deadLetters.list({ offset: 2 })).toEqual(all.slice(2));
    });

    it('[QU-5] are requeued by id with a fresh count of deliveries, and no old holder can touch them', async () => {
      const one = queues.get<Email>('emails', { maxDeliveries: 1 });
      await one.push({ to: 'a' });
      const old = (await one.take())!;
      await endLeases();
      expect(await one.take()).toBeNull();
      expect(await emails.deadLetters.requeue([old.id, 'unknown'])).toBe(1);
      expect(await emails.deadLetters.list()).toEqual([]);
      const again = (await emails.take())!;
      expect(again).toMatchObject({ id: old.id, deliveries: 1 });
      expect(await old.ack()).toBe(false);
      expect(await again.retry()).toBe(true);
      expect((await emails.take())?.deliveries).toBe(2);
    });

    it('[QU-5] are requeued and purged all at once, in any number', async () => {
      await kill(12);
      await redis.client.zadd(
        'atomic:queue:dead:{emails}:emails',
        ...Array.from({ length: 2_000 }, (_, i) => [i, `stray${i}`]).flat(),
      );
      expect(await emails.deadLetters.purgeAll()).toBe(2_012);
      expect(await emails.counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
      await kill(2);
      expect(await emails.deadLetters.requeueAll()).toBe(2);
      expect(await emails.counts()).toEqual({ pending: 2, delayed: 0, processing: 0, dead: 0 });
      expect(await emails.deadLetters.requeue([])).toBe(0);
      expect(await emails.deadLetters.purgeAll()).toBe(0);
    });

    it('[QU-5] are not purged if the ids are undefined', async () => {
      await kill(2);
      const purge = async () => emails.deadLetters.purge(undefined as never);
      await expect(purge()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', argument: 'ids' });
      expect((await emails.counts()).dead).toBe(2);
    });

    it('[QU-5] are purged by id without touching others', async () => {
      const [first, second] = await kill(2);
      expect(await emails.deadLetters.purge([first!])).toBe(1);
      expect(await emails.deadLetters.list()).toMatchObject([{ id: second }]);
      expect(await redis.client.hkeys('atomic:queue:jobs:{emails}:emails')).toEqual([second]);
    });
  });

  it('[QU-6] preserves bytes', async () => {
    const raw = queues.get('raw', { format: 'bytes' });
    const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    await raw.pushMany([all, Buffer.alloc(0), Buffer.from([0xc3, 0x28, 0x00])]);
    const payloads = [];
    for (let job = await raw.take(); job; job = await raw.take()) payloads.push(job.payload);
    expect(payloads).toEqual([all, Buffer.alloc(0), Buffer.from([0xc3, 0x28, 0x00])]);
  });

  it('[QU-6] pushes 10,000 jobs at once', async () => {
    const ids = await emails.pushMany(Array.from({ length: 10_000 }, (_, i) => ({ to: String(i) })));
    expect(new Set(ids).size).toBe(10_000);
    expect((await emails.counts()).pending).toBe(10_000);
    expect((await emails.take())?.payload).toEqual({ to: '0' });
    expect(await emails.pushMany([])).toEqual([]);
  });

  it('[QU-6] keeps queues apart, whatever their names', async () => {
    const names = ['a', 'a:b', '{a}', 'a}', '{', 'ä 💡', 'a:{b}:c', 'pending'];
    for (const name of names) await queues.get<string>(name).push(name);
    for (const name of names) {
      const queue = queues.get<string>(name);
      expect(await queue.counts()).toEqual({ pending: 1, delayed: 0, processing: 0, dead: 0 });
      expect((await queue.take())?.payload).toBe(name);
      expect(await queue.take()).toBeNull();
    }
  });

  it('[QU-7] takes one round trip each to push, take and settle, and to settle and take the next', async () => {
    await emails.pushMany([{ to: 'warm' }, { to: 'up' }]);
    await (await emails.take())!.ack();
    await (await emails.take())!.ack();
    const own = await openQueues(redis.server.url);
    const queue = own.queues.get<Email>('emails');
    await queue.counts();
    const used = await countCommands(redis.client, async () => {
      await queue.push({ to: 'a' });
      await queue.push({ to: 'b' });
      const job = (await queue.take())!;
      const { acked, next } = await job.ackAndTakeNext();
      expect([acked, next?.payload]).toEqual([true, { to: 'b' }]);
      await next!.ackAndTakeNext();
    });
    expect(used.evalsha).toBe(5);
    expect(Object.keys(used).filter((name) => name === 'eval' || name === 'blmove')).toEqual([]);
    await own.close();
  });

  describe('calls of one turn', () => {
    // A separate queue, so that its search for dead consumers is not due in the middle of a test.
    let own: TestQueues;
    let letters: ReliableQueue<Email>;
    beforeEach(async () => {
      own = await openQueues(redis.server.url);
      letters = own.queues.get<Email>('emails');
      await letters.counts();
    });
    afterEach(() => own.close());

    const addresses = Array.from({ length: 40 }, (_, i) => ({ to: `to ${i}` }));
    const together = <T, R>(list: readonly T[], call: (one: T, i: number) => Promise<R>): Promise<R[]> =>
      Promise.all(list.map(call));

    it('[QU-7] share one round trip, in their order, and each has its own result', async () => {
      const used = await countCommands(redis.client, async () => {
        const ids = await together(addresses, (email) => letters.push(email));
        expect(new Set(ids).size).toBe(40);
        // Two more than there are jobs.
        const jobs = await together([...addresses, 'none', 'none'], () => letters.take());
        expect(jobs.map((job) => job?.id)).toEqual([...ids, undefined, undefined]);
        expect(jobs.slice(0, 40).map((job) => job!.payload)).toEqual(addresses);
        await redis.client.zrem('atomic:queue:leases:{emails}:emails', ids[7]!);
        const ends = await together(jobs.slice(0, 40), (job, i) => (i % 2 ? job!.ack() : job!.retry()));
        expect(ends).toEqual(addresses.map((_, i) => i !== 7));
        expect(await letters.counts()).toEqual({ pending: 20, delayed: 0, processing: 1, dead: 0 });
        const again = await together(addresses.slice(0, 20), () => letters.take());
        expect(again.map((job) => [job!.id, job!.deliveries])).toEqual(
          ids.filter((_, i) => i % 2 === 0).map((id) => [id, 2]),
        );
        const next = await together(again, (job) => job!.ackAndTakeNext());
        expect(next).toEqual(again.map(() => ({ acked: true, next: null })));
      });
      expect(used.evalsha).toBe(5);
    });

    it('[QU-7] get their own results even if some take, some settle, and some do both', async () => {
      await letters.pushMany(addresses.slice(0, 6));
      const [a, b, c] = [(await letters.take())!, (await letters.take())!, (await letters.take())!];
      const used = await countCommands(redis.client, async () => {
        const [ended, taken, both, retried, last] = await Promise.all([
          a.ack(),
          letters.take(),
          b.ackAndTakeNext(),
          c.retry(),
          letters.take(),
        ]);
        expect([ended, both.acked, retried]).toEqual([true, true, true]);
        expect([taken, both.next, last].map((job) => job!.payload)).toEqual(addresses.slice(3, 6));
      });
      expect(used.evalsha).toBe(1);
      expect((await letters.take())!.id).toBe(c.id);
    });

    it('[QU-7] share nothing with calls that have other terms', async () => {
      const strict = own.queues.get<Email>('emails', { maxDeliveries: 1 });
      await letters.pushMany(addresses.slice(0, 4));
      const used = await countCommands(redis.client, async () => {
        const takes = [letters.take(), letters.take({ leaseMs: 600_000 }), letters.take(), strict.take()];
        const jobs = await Promise.all(takes);
        expect(jobs.map((job) => job!.payload)).toEqual(addresses.slice(0, 4));
        const leases = await together(jobs, (job) =>
          redis.client.zscore('atomic:queue:leases:{emails}:emails', job!.id),
        );
        const [first, long, third] = leases.map(Number) as [number, number, number];
        expect(long - first).toBeGreaterThan(500_000);
        expect(Math.abs(third - first)).toBeLessThan(30_000);
        expect(await together(jobs, (job) => job!.retry())).toEqual([true, true, true, true]);
        expect(await letters.counts()).toEqual({ pending: 3, delayed: 0, processing: 0, dead: 1 });
      });
      expect(used.evalsha).toBe(4 + 2);
    });

    it('[QU-7] share only a bounded batch, and stay in their order', async () => {
      const large = own.queues.get<string>('large');
      const payloads = Array.from({ length: 8 }, (_, i) => String(i).repeat(100_000));
      const used = await countCommands(redis.client, async () => {
        await together(payloads, (payload) => large.push(payload));
      });
      expect(used.evalsha).toBe(3);
      const jobs = await together(payloads, () => large.take());
      expect(jobs.map((job) => job!.payload)).toEqual(payloads);
      const many = Array.from({ length: 250 }, (_, i) => i);
      const numbers = own.queues.get<number>('numbers');
      await numbers.pushMany(many);
      const taking = await countCommands(redis.client, async () => {
        const taken = await together(many, () => numbers.take());
        expect(taken.map((job) => job!.payload)).toEqual(many);
      });
      expect(taking.evalsha).toBe(3);
    });

    it('[QU-7] get recovered jobs in the order they were lost, ahead of the others', async () => {
      const [first, ...rest] = await letters.pushMany(addresses.slice(0, 4));
      const lost = (await together(rest, () => letters.take())).map((job) => job!.id);
      expect(lost).toEqual([first, ...rest.slice(0, 2)]);
      await together(lost, (id, i) => redis.client.zadd('atomic:queue:leases:{emails}:emails', 9 - i, id));
      const taken = await together(addresses.slice(0, 5), () => letters.take());
      expect(taken.map((job) => job?.id)).toEqual([...lost.toReversed(), rest[2], undefined]);
    });

    it('[QU-7] are awaited by a shutdown in that turn', async () => {
      await letters.push({ to: 'a' });
      const pushing = letters.push({ to: 'b' });
      await Promise.all([own.close(), expect(pushing).resolves.toEqual(expect.any(String))]);
      expect(await queues.get('emails').counts()).toMatchObject({ pending: 2 });
    });
  });

  it('[QU-6] keeps nothing in the process for queues whose names are no longer used', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const settled = async (): Promise<number> => {
      for (let i = 0; i < 3; i++) {
        await new Promise((resolve) => setTimeout(resolve, 10));
        collect();
      }
      return process.memoryUsage().heapUsed;
    };
    const names = 20_000;
    const before = await settled();
    for (let i = 0; i < names; i++) queues.get(`user:${i}`);
    // Some 2 kB each, if they were kept.
    expect((await settled()) - before).toBeLessThan(names * 500);
  });

  it('[QU-8] waits for a job without blocking the connection for others', async () => {
    const waiting = emails.take({ waitMs: 20_000 });
    await waitFor('BZPOPMIN blocks', async () =>
      (await redis.client.info('clients')).includes('blocked_clients:1'),
    );
    const took: number[] = [];
    for (let i = 0; i < 5; i++) {
      const began = performance.now();
      await emails.counts();
      took.push(performance.now() - began);
    }
    // Well under the second for which BZPOPMIN blocks, wherever the machine does not stall.
    expect(Math.min(...took)).toBeLessThan(700);
    const id = await emails.push({ to: 'a' });
    const job = (await waiting)!;
    expect(job.id).toBe(id);
    expect(await job.ack()).toBe(true);
  });

  it('[QU-8] serves many waiting callers in turn over one connection', async () => {
    const waiting = Array.from({ length: 20 }, () => emails.take({ waitMs: 20_000 }));
    await waitFor('BZPOPMIN blocks', async () =>
      (await redis.client.info('clients')).includes('blocked_clients:1'),
    );
    const ids = await emails.pushMany(Array.from({ length: 20 }, (_, i) => ({ to: String(i) })));
    const jobs = await Promise.all(waiting);
    expect(new Set(jobs.map((job) => job?.id))).toEqual(new Set(ids));
    const list = (await redis.client.client('LIST')) as string;
    expect(list.match(/name=nestjs-atomic-redis:default:queue/g)).toHaveLength(1);
  });

  it('[QU-8] stops waiting when the time is up, its signal aborts, or the module closes', async () => {
    expect(await emails.take({ waitMs: 100 })).toBeNull();
    const abort = new AbortController();
    const aborted = emails.take({ waitMs: 60_000, signal: abort.signal });
    const why = new Error('enough');
    abort.abort(why);
    await expect(aborted).rejects.toBe(why);
    await expect(emails.take({ signal: abort.signal })).rejects.toBe(why);

    const own = await openQueues(redis.server.url);
    const waiting = own.queues.get('emails').take({ waitMs: 60_000 });
    const refused = waiting.catch((error: unknown) => error);
    await waitFor('it waits', async () => /blocked_clients:[1-9]/.test(await redis.client.info('clients')));
    await own.close();
    expect(await refused).toBeInstanceOf(ModuleClosedError);
    await expect(own.queues.get('emails').take({ waitMs: 10 })).rejects.toBeInstanceOf(ModuleClosedError);
    expect(() => own.queues.get('emails').consume(() => 1)).toThrow(ModuleClosedError);
  });

  it('[QU-8] leaves a job alone that arrives when no caller waits any more', async () => {
    const abort = new AbortController();
    const waiting = emails.take({ waitMs: 60_000, signal: abort.signal }).catch(() => undefined);
    await waitFor('BZPOPMIN blocks', async () =>
      (await redis.client.info('clients')).includes('blocked_clients:1'),
    );
    abort.abort();
    await waiting;
    const id = await emails.push({ to: 'a' });
    // Nobody else is there who could do it instead.
    await waitFor('it is back', async () =>
      (await redis.client.lrange('atomic:queue:pending:{emails}:emails', 0, -1)).includes(id),
    );
    expect(await emails.counts()).toEqual({ pending: 1, delayed: 0, processing: 0, dead: 0 });
  });

  it('[QU-9] settles a delivery once, whichever call comes first', async () => {
    await emails.pushMany([{ to: 'a' }, { to: 'b' }]);
    const job = (await emails.take())!;
    expect(await Promise.all([job.ack(), job.ack(), job.retry()])).toEqual([true, true, false]);
    expect(await job.ack()).toBe(true);
    expect(await job.extend()).toBe(false);
    expect(job.signal.aborted).toBe(false);
    expect((await job.ackAndTakeNext()).next?.payload).toEqual({ to: 'b' });
  });

  it('[ARG-1] refuses bad input before any command', async () => {
    await expectWrongArguments(redis.client, [
      ['name', () => queues.get('')],
      ['options.leaseMs', () => queues.get('q', { leaseMs: 99 })],
      ['options.maxDeliveries', () => queues.get('q', { maxDeliveries: 0 })],
      ['options.format', () => queues.get('q', { format: 'xml' as never })],
      ['options.lease', () => queues.get('q', { lease: 1 } as never)],
      ['payload', () => emails.push(undefined as never)],
      ['payload', () => emails.push(1n as never)],
      ['payload', () => queues.get('q', { format: 'bytes' }).push('text' as never)],
      ['payloads[1]', () => emails.pushMany([{ to: 'a' }, (() => 1) as never])],
      ['payloads', () => emails.pushMany({} as never)],
      ['payloads', () => emails.pushMany(Array.from({ length: 10_001 }, () => ({ to: '' })))],
      ['options.timeoutMs', () => emails.push({ to: 'a' }, { timeoutMs: 0 })],
      ['options.waitMs', () => emails.take({ waitMs: -1 })],
      ['options.timeoutMs', () => emails.take({ timeoutMs: 0 })],
      ['options.leaseMs', () => emails.take({ leaseMs: 1.5 })],
      ['options.signal', () => emails.take({ signal: {} as never })],
      ['handler', () => emails.consume(undefined as never)],
      ['options.concurrency', () => emails.consume(() => 1, { concurrency: 0 })],
      ['options.limit', () => emails.deadLetters.list({ limit: 1_001 })],
      ['options.offset', () => emails.deadLetters.list({ offset: -1 })],
      ['ids', () => emails.deadLetters.purge('all' as never)],
      ['ids', () => emails.deadLetters.requeue(undefined as never)],
      ['ids[0]', () => emails.deadLetters.requeue([1 as never])],
    ]);
  });

  it('[QU-9] refuses each call inside a transaction by default, and runs it with propagation outside', async () => {
    const own = await boot({ connection: redis.server.url });
    const queue = own.get(ReliableQueueService).get<Email>('emails');
    await queue.push({ to: 'a' });
    const job = (await queue.take())!;
    await own.get(TransactionService).run(['k'], async () => {
      for (const call of [
        () => queue.push({ to: 'b' }),
        () => queue.take(),
        () => job.ack(),
        () => job.retry(),
        () => job.extend(),
        () => queue.deadLetters.purge(['x']),
      ])
        await expect(call()).rejects.toBeInstanceOf(IllegalTransactionStateError);
    });
    await inTransaction(async () => {
      await queue.push({ to: 'c' }, { propagation: 'outside' });
      expect((await queue.take({ propagation: 'outside' }))?.payload).toEqual({ to: 'c' });
      expect(await job.ack({ propagation: 'outside' })).toBe(true);
    });
  });
});
