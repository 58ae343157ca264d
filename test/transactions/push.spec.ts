import {
  CrossSlotError,
  defineQueue,
  IllegalTransactionStateError,
  InvalidArgumentError,
  InvalidPayloadError,
  type ReliableQueue,
  type StandardSchema,
  type TransactionOptions,
} from 'nestjs-atomic-redis';
import { countCommands } from '../support/command-stats.js';
import { SERVERS, useTarget } from '../support/target.js';
import { waitFor } from '../support/wait-for.js';

interface Email {
  to: string;
}

class SoldOut extends Error {}

const KEY = '{shop}:stock';
const QUEUE = '{shop}:emails';
const NONE = { pending: 0, delayed: 0, processing: 0, dead: 0 };

describe.each(SERVERS)('tx.push on %s', (kind) => {
  const target = useTarget(kind);
  let queue: ReliableQueue<Email>;

  beforeEach(() => {
    queue = target.redis.queues.get<Email>(QUEUE);
  });

  const run: (typeof target)['redis']['transactions']['run'] = (...args) =>
    target.redis.transactions.run(...args);
  const drain = async (from: ReliableQueue<Email> = queue): Promise<string[]> => {
    const payloads: string[] = [];
    for (let job = await from.take(); job; job = await from.take()) {
      payloads.push(job.payload.to);
      await job.ack();
    }
    return payloads;
  };
  const to = (name: string): Email => ({ to: name });

  it('[QU-29] pushes jobs with the writes, in their order, and wakes waiting consumers', async () => {
    const waiting = queue.take({ waitMs: 60_000 });
    const ids = await run([KEY], (tx) => {
      tx.write.set(KEY, 1);
      return [tx.push(queue, to('ada')), tx.push(queue, to('bob')), tx.push(queue, to('eve'))];
    });
    const first = (await waiting)!;
    expect(first).toMatchObject({ id: ids[0], payload: { to: 'ada' }, deliveries: 1 });
    expect(new Set(ids).size).toBe(3);
    expect(await target.client.get(KEY)).toBe('1');
    expect(await queue.counts()).toEqual({ ...NONE, pending: 2, processing: 1 });
    await first.ack();
    expect(await drain()).toEqual(['bob', 'eve']);
    // The wake-up keys disappear with the last job.
    expect(
      (await target.client.exists(`atomic:queue:jobs:{shop}:${QUEUE}`)) + (await queue.counts()).pending,
    ).toBe(0);
  });

  it('[QU-29] wakes a consumer at once, even if the transaction does nothing else', async () => {
    const seen: string[] = [];
    const consumer = queue.consume((job) => void seen.push(job.payload.to));
    await run([KEY], (tx) => void tx.push(queue, to('first')));
    await waitFor('the first', () => seen.length === 1);
    // It waits again. Consumers look by themselves only after ten seconds.
    const pushedAt = performance.now();
    await run([KEY], (tx) => void tx.push(queue, to('second')));
    await waitFor('the second', () => seen.length === 2);
    expect(performance.now() - pushedAt).toBeLessThan(8_000);
    await consumer.stop();
  });

  it('[QU-29] pushes nothing when the callback throws', async () => {
    const failing = run([KEY], (tx) => {
      tx.push(queue, to('ada'));
      throw new SoldOut();
    });
    await expect(failing).rejects.toThrow(SoldOut);
    expect(await queue.counts()).toEqual(NONE);
  });

  it('[QU-29] pushes a job once, however often the callback runs', async () => {
    const ids: string[] = [];
    await run([KEY], async (tx) => {
      await tx.read.get(KEY);
      ids.push(tx.push(queue, to(`attempt ${tx.attempt}`)));
      if (tx.attempt < 3) await target.client.append(KEY, 'x');
      tx.write.set(KEY, 1);
    });
    expect(new Set(ids).size).toBe(3);
    expect((await queue.take())!.id).toBe(ids[2]);
    expect(await queue.counts()).toEqual({ ...NONE, processing: 1 });
  });

  it('[QU-29] drops the jobs of a joined transaction that failed, and no others', async () => {
    await run([KEY], async (tx) => {
      tx.push(queue, to('around'));
      const part = (name: string, fails: boolean): Promise<void> =>
        run([`{shop}:${name}`], async (inner) => {
          inner.push(queue, to(name));
          await inner.read.get('{shop}:something');
          if (fails) throw new SoldOut();
        });
      await Promise.allSettled([part('lost', true), part('kept', false)]);
      tx.push(queue, to('last'));
    });
    expect(await drain()).toEqual(['around', 'kept', 'last']);
  });

  it('[QU-29] pushes exactly one job for each transaction of a group', async () => {
    await run([KEY], (tx) => void tx.write.set(KEY, 0));
    const sell = (i: number): Promise<number> =>
      run([KEY], async (tx) => {
        const left = Number(await tx.read.get(KEY)) + 1;
        tx.push(queue, to(`buyer ${i}`));
        if (i % 8 === 3) throw new SoldOut();
        tx.write.set(KEY, left);
        return left;
      });
    const results = await Promise.allSettled(Array.from({ length: 64 }, (_, i) => sell(i)));
    const sold = results.flatMap(({ status }, i) => (status === 'fulfilled' ? [`buyer ${i}`] : []));
    expect(sold).toHaveLength(56);
    expect(await target.client.get(KEY)).toBe('56');
    expect((await drain()).toSorted()).toEqual(sold.toSorted());
  });

  it('[QU-29] delays the delayed jobs of a group', async () => {
    await run([KEY], (tx) => void tx.write.set(KEY, 0));
    const pushing = Array.from({ length: 16 }, (_, i) =>
      run([KEY], async (tx) => {
        tx.write.set(KEY, Number(await tx.read.get(KEY)) + 1);
        tx.push(queue, to(`${i}`), { delayMs: 600_000 });
      }),
    );
    await Promise.all(pushing);
    expect(await queue.take()).toBeNull();
    expect(await queue.counts()).toEqual({ ...NONE, pending: 16, delayed: 16 });
    const delayed = `atomic:queue:delayed:{shop}:${QUEUE}`;
    for (const member of await target.client.zrange(delayed, '0', '-1'))
      await target.client.zadd(delayed, 1, member);
    expect(await drain()).toHaveLength(16);
  });

  it('[QU-29] refuses a job of a group that an asynchronous schema refuses, and its transaction alone', async () => {
    const validate = async (value: unknown) =>
      (value as Email).to === '' ? { issues: [{ message: 'is missing' }] } : { value: value as Email };
    const schema: StandardSchema<Email> = { '~standard': { version: 1, vendor: 'test', validate } };
    const checked = target.redis.queues.get(defineQueue('{shop}:checked', { schema }));
    await run([KEY], (tx) => void tx.write.set(KEY, 0));
    const results = await Promise.allSettled(
      Array.from({ length: 16 }, (_, i) =>
        run([KEY], async (tx) => {
          tx.write.set(KEY, Number(await tx.read.get(KEY)) + 1);
          tx.push(checked, to(i % 2 === 0 ? `${i}` : ''));
        }),
      ),
    );
    for (const [i, result] of results.entries())
      if (i % 2 === 0) expect(result.status).toBe('fulfilled');
      else expect((result as PromiseRejectedResult).reason).toBeInstanceOf(InvalidPayloadError);
    expect([await target.client.get(KEY), (await checked.counts()).pending]).toEqual(['8', 8]);
  });

  it('[QU-29] keeps the replies of pushes out of the replies of EXEC', async () => {
    const told: unknown[] = [];
    const options: TransactionOptions = { onReplies: (replies) => void told.push([...replies!]) };
    await run(
      [KEY],
      (tx) => {
        tx.push(queue, to('ada'));
        tx.write.incr(KEY);
        tx.push(queue, to('bob'));
        tx.write.incrby(KEY, 5);
      },
      options,
    );
    expect(told).toEqual([[1, 6]]);
    expect(await drain()).toEqual(['ada', 'bob']);
  });

  it('[QU-29] captures the payload at the call', async () => {
    const bytes = target.redis.queues.get(`${QUEUE}:bytes`, { format: 'bytes' });
    const buffer = Buffer.from('before');
    const email = to('before');
    await run([KEY], async (tx) => {
      tx.push(bytes, buffer);
      tx.push(queue, email);
      buffer.write('after!');
      email.to = 'after';
      await tx.read.get(KEY);
    });
    expect((await bytes.take())!.payload.toString()).toBe('before');
    expect(await drain()).toEqual(['before']);
  });

  it('[QU-29] delays a job by Redis’s clock, behind those that were delayed before', async () => {
    const delayed = `atomic:queue:delayed:{shop}:${QUEUE}`;
    const clock = jest.spyOn(Date, 'now').mockReturnValue(0);
    try {
      for (const name of ['a', 'b', 'c'])
        await run([KEY], (tx) => {
          tx.push(queue, to(`${name}1`), { delayMs: 600_000 });
          tx.push(queue, to(`${name}2`), { delayMs: 600_000 });
        });
    } finally {
      clock.mockRestore();
    }
    expect(await queue.take()).toBeNull();
    expect(await queue.counts()).toEqual({ ...NONE, pending: 6, delayed: 6 });
    const [seconds] = await target.client.time();
    const [, due] = await target.client.zrange(delayed, '0', '0', 'WITHSCORES');
    expect(Math.abs(Number(due) - Number(seconds) * 1_000 - 600_000)).toBeLessThan(30_000);
    for (const member of await target.client.zrange(delayed, '0', '-1'))
      await target.client.zadd(delayed, 1, member);
    expect(await drain()).toEqual(['a1', 'a2', 'b1', 'b2', 'c1', 'c2']);
    // Waits, and is woken when the job is due.
    const waiting = queue.take({ waitMs: 60_000 });
    const pushedAt = performance.now();
    await run([KEY], (tx) => void tx.push(queue, to('soon'), { delayMs: 500 }));
    expect((await waiting)!.payload.to).toBe('soon');
    const waitedMs = performance.now() - pushedAt;
    expect(waitedMs).toBeGreaterThan(450);
    expect(waitedMs).toBeLessThan(8_000);
  });

  it('[QU-29] refuses the same arguments as push, and nothing of the transaction is applied', async () => {
    const cycle: Record<string, unknown> = {};
    cycle['self'] = cycle;
    const any = target.redis.queues.get(QUEUE);
    for (const payload of [undefined, 1n, cycle]) {
      const refused = run([KEY], (tx) => {
        tx.write.set(KEY, 1);
        tx.push(any, payload);
      });
      await expect(refused).rejects.toThrow(InvalidArgumentError);
    }
    for (const options of [{ delayMs: -1 }, { delayMs: 1.5 }, { timeoutMs: 5 }, 1]) {
      const refused = run([KEY], (tx) => {
        tx.write.set(KEY, 1);
        tx.push(any, 1, options as never);
      });
      await expect(refused).rejects.toThrow(InvalidArgumentError);
    }
    for (const other of [QUEUE, undefined, {}, { name: QUEUE }]) {
      const refused = run([KEY], (tx) => void tx.push(other as never, 1));
      await expect(refused).rejects.toThrow(/queue must be a queue of ReliableQueueService.get/);
    }
    expect(await target.client.exists(KEY)).toBe(0);
    expect(await queue.counts()).toEqual(NONE);
  });

  it('[QU-29] refuses a queue of another registration, which may be another Redis', async () => {
    const another = await target.another();
    const { AtomicRedis } = await import('nestjs-atomic-redis');
    const elsewhere = another.get(AtomicRedis).queues.get<Email>(QUEUE);
    const refused = run([KEY], (tx) => void tx.push(elsewhere, to('ada')));
    await expect(refused).rejects.toThrow(IllegalTransactionStateError);
    await expect(refused).rejects.toThrow(/another registration/);
    await another.close();
  });

  it('[QU-29] refuses a push after the end of the attempt or of the joined transaction', async () => {
    let late!: () => string;
    await run([KEY], (tx) => void (late = () => tx.push(queue, to('ada'))));
    expect(late).toThrow(IllegalTransactionStateError);
    await run([KEY], async (tx) => {
      await run([KEY], (inner) => void (late = () => inner.push(queue, to('ada'))));
      expect(late).toThrow(IllegalTransactionStateError);
      await tx.read.get(KEY);
    });
    expect(await queue.counts()).toEqual(NONE);
  });

  it('[QU-29] is suggested by the error of a plain push inside a transaction', async () => {
    const refused = run([KEY], () => queue.push(to('ada')));
    await expect(refused).rejects.toThrow(/Use tx\.push/);
  });
});

describe('tx.push on one server', () => {
  const target = useTarget('one server');

  it('[QU-29] sends no extra command beside those of the transaction and the job, and so takes no extra round trip', async () => {
    const { transactions, queues } = target.redis;
    const queue = queues.get<Email>('emails');
    const push = (delayMs: number): Promise<string> =>
      transactions.run(['k'], async (tx) => {
        await tx.read.get('k');
        tx.write.set('k', 1);
        return tx.push(queue, { to: 'ada' }, { delayMs });
      });
    await push(1_000);
    const used = await countCommands(target.client, () => push(0));
    const { set, ...others } = used;
    // It sets as many keys of its own as any transaction.
    expect(set).toBeGreaterThan(1);
    expect(others).toEqual({ watch: 1, get: 1, multi: 1, hset: 1, rpush: 1, zadd: 1, exec: 1 });
    // The clock is known by now.
    const delayed = await countCommands(target.client, () => push(1_000));
    expect(delayed).toMatchObject({ watch: 1, hset: 1, zadd: 2, exec: 1 });
    expect(Object.keys(delayed)).not.toContain('evalsha');
    expect(Object.keys(delayed)).not.toContain('time');
  });

  it('[QU-29] respects requireSameSlot, and otherwise accepts any queue', async () => {
    const strict = await target.another({ transactions: { requireSameSlot: true } });
    const { AtomicRedis } = await import('nestjs-atomic-redis');
    const { transactions, queues } = strict.get(AtomicRedis);
    const refused = transactions.run(['{a}:k'], (tx) => void tx.push(queues.get('emails'), 1));
    await expect(refused).rejects.toThrow(CrossSlotError);
    await transactions.run(['{a}:k'], (tx) => void tx.push(queues.get('{a}:emails'), 1));
    await strict.close();
    await target.redis.transactions.run(
      ['{a}:k'],
      (tx) => void tx.push(target.redis.queues.get('emails'), 1),
    );
  });
});

describe('tx.push on a Cluster', () => {
  const target = useTarget('a Cluster');

  it('[QU-29] refuses a queue of another slot before any I/O, and tells how to name it', async () => {
    const { transactions, queues } = target.redis;
    const refused = transactions.run([KEY], (tx) => {
      tx.write.set(KEY, 1);
      tx.push(queues.get('emails'), 1);
    });
    await expect(refused).rejects.toThrow(CrossSlotError);
    await expect(refused).rejects.toMatchObject({
      keys: [KEY, 'emails'],
      message: expect.stringMatching(/Give the queue a name with their hash tag/) as string,
    });
    expect(await target.client.exists(KEY)).toBe(0);
  });
});
