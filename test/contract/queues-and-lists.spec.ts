import { ListService, ReliableQueueService, TransactionService } from 'nestjs-atomic-redis';
import { AWKWARD_KEYS } from '../support/awkward-keys.js';
import { targetOfEnvironment, useTarget } from '../support/target.js';
import { waitFor } from '../support/wait-for.js';

describe('queues and lists', () => {
  const target = useTarget(targetOfEnvironment(), { asUser: true, replicasPerMaster: 1 });
  const queues = (): ReliableQueueService => target.app.get(ReliableQueueService);
  const lists = (): ListService => target.app.get(ListService);

  it('[SRV-1] each of many jobs is taken by one of several consumers, acknowledged, and does not come back', async () => {
    const queue = queues().get<number>('many');
    const taken: number[] = [];
    const jobs = Array.from({ length: 60 }, (_, i) => i);
    const consumer = queue.consume((job) => void taken.push(job.payload), { concurrency: 4 });
    await queue.pushMany(jobs.slice(0, 30));
    for (const job of jobs.slice(30)) await queue.push(job);
    await waitFor('all jobs', () => taken.length === jobs.length);
    await waitFor('their acknowledgements', async () => (await queue.counts()).processing === 0);
    await consumer.stop();
    expect(taken.toSorted((a, b) => a - b)).toEqual(jobs);
    expect(await queue.counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
  });

  it('[SRV-1] a job without an acknowledgement is redelivered, then goes to the dead letters, and can be requeued from there', async () => {
    const queue = queues().get<string>('poison', { maxDeliveries: 2 });
    await queue.push('x');
    const first = await queue.take({ leaseMs: 100 });
    const again = await queue.take({ waitMs: 10_000 });
    expect(again).toMatchObject({ id: first!.id, payload: 'x' });
    expect(await first!.ack()).toBe(false);
    expect(await again!.extend({ leaseMs: 60_000 })).toBe(true);
    await again!.retry();
    expect(await queue.take()).toBeNull();
    expect((await queue.deadLetters.list()).map(({ id }) => id)).toEqual([first!.id]);
    expect(await queue.deadLetters.requeueAll()).toBe(1);
    expect(await (await queue.take())!.ack()).toBe(true);
  });

  it('[SRV-1] one transaction pushes jobs, and another completes one with its effects', async () => {
    const transactions = target.app.get(TransactionService);
    const orders = queues().get<number>('{o}:orders');
    const mails = queues().get<string>('{o}:mails');
    const key = 'app:{o}:shipped';
    await transactions.run([key], (tx) => {
      tx.push(orders, 7, { retry: { minMs: 10 } });
      tx.push(mails, 'later', { delayMs: 600_000 });
      tx.write.set(key, 0);
    });
    const job = (await orders.take({ waitMs: 10_000 }))!;
    await transactions.run(
      [key],
      async (tx) => {
        tx.write.set(key, Number(await tx.read.get(key)) + job.payload);
        tx.push(mails, 'shipped');
      },
      { completesJob: job },
    );
    expect(await target.client.get(key)).toBe('7');
    expect(await orders.counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
    expect((await mails.take())!.payload).toBe('shipped');
    expect(await mails.counts()).toEqual({ pending: 1, delayed: 1, processing: 1, dead: 0 });
  });

  it('[SRV-2] a queue may have any name and lies in one slot', async () => {
    for (const name of AWKWARD_KEYS.slice(0, -1)) {
      const queue = queues().get<string>(name);
      const waiting = queue.take({ waitMs: 10_000 });
      await queue.push('job');
      expect(await (await waiting)!.ack()).toBe(true);
      expect(await queue.counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
    }
  });

  it('[SRV-1] lists: an element is moved once, to a waiting caller too', async () => {
    await target.client.rpush('app:{l}:from', 'a', 'b');
    const moved = await Promise.all([1, 2, 3].map(() => lists().move('app:{l}:from', 'app:{l}:to')));
    expect(new Set(moved)).toEqual(new Set(['a', 'b', null]));
    const waiting = lists().move('app:{l}:from', 'app:{l}:to', { waitMs: 10_000 });
    await target.client.rpush('app:{l}:from', 'c');
    expect(await waiting).toBe('c');
    expect(await target.client.llen('app:{l}:to')).toBe(3);
  });
});
