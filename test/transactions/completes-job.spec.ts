import { Injectable } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import {
  AtomicRedis,
  AtomicRedisEvents,
  AtomicRedisModule,
  CrossSlotError,
  IllegalTransactionStateError,
  InjectTransaction,
  InvalidArgumentError,
  LeaseLostError,
  OptimisticRetry,
  PartialCommitError,
  QueueConsumer,
  Transaction,
  type AtomicRedisEvent,
  type QueueJob,
  type ReliableQueue,
} from 'nestjs-atomic-redis';
import { countCommands } from '../support/command-stats.js';
import { SERVERS, useTarget } from '../support/target.js';
import { waitFor } from '../support/wait-for.js';

interface Order {
  id: number;
}

const KEY = '{shop}:shipped';
const ORDERS = '{shop}:orders';
const MAILS = '{shop}:mails';
const NONE = { pending: 0, delayed: 0, processing: 0, dead: 0 };

class Failed extends Error {}

describe.each(SERVERS)('a transaction that completes a job on %s', (kind) => {
  const target = useTarget(kind);
  let orders: ReliableQueue<Order>;
  let mails: ReliableQueue<string>;

  beforeEach(() => {
    orders = target.redis.queues.get<Order>(ORDERS, { retry: { minMs: 0, maxMs: 0 } });
    mails = target.redis.queues.get<string>(MAILS);
  });

  const take = async (queue = orders): Promise<QueueJob<Order>> => {
    await queue.push({ id: 7 });
    return (await queue.take())!;
  };
  const ship = (job: QueueJob<Order>, during?: (attempt: number) => unknown): Promise<number> =>
    target.redis.transactions.run(
      [KEY],
      async (tx) => {
        const shipped = Number(await tx.read.get(KEY)) + 1;
        await during?.(tx.attempt);
        tx.write.set(KEY, shipped);
        tx.push(mails, `order ${job.payload.id}`);
        return shipped;
      },
      { completesJob: job },
    );
  /** The lease is over by Redis's clock, without waiting for it. */
  const endLease = (job: QueueJob): Promise<unknown> =>
    target.client.zadd(`atomic:queue:leases:{shop}:${ORDERS}`, 1, job.id);
  const nothingDone = async (): Promise<void> => {
    expect(await target.client.exists(KEY)).toBe(0);
    expect(await mails.counts()).toEqual(NONE);
  };

  it('[QU-30] applies the effects, the acknowledgement and the follow-up jobs in one EXEC', async () => {
    const job = await take();
    expect(await ship(job)).toBe(1);
    expect(await target.client.get(KEY)).toBe('1');
    expect(await orders.counts()).toEqual(NONE);
    expect((await mails.take())!.payload).toBe('order 7');
    // It is over, as after an acknowledgement.
    expect(job.signal.aborted).toBe(false);
    expect(await job.ack()).toBe(true);
    expect(await job.retry()).toBe(false);
    expect(await job.extend()).toBe(false);
    expect(await mails.counts()).toEqual({ ...NONE, processing: 1 });
  });

  it('[QU-30] clears the delivery history of a redelivered job', async () => {
    await (await take()).retry({ reason: 'once' });
    const job = (await orders.take())!;
    expect(job.deliveries).toBe(2);
    await ship(job);
    const left = await Promise.all(
      ['jobs', 'history', 'leases', 'pending'].map((part) =>
        target.client.exists(`atomic:queue:${part}:{shop}:${ORDERS}`),
      ),
    );
    expect(left).toEqual([0, 0, 0, 0]);
  });

  it('[QU-30] acknowledges once, however often its callback runs', async () => {
    const job = await take();
    expect(await ship(job, (attempt) => attempt < 3 && target.client.incr(KEY))).toBe(3);
    expect(await orders.counts()).toEqual(NONE);
    expect(await mails.counts()).toEqual({ ...NONE, pending: 1 });
  });

  it('[QU-30] leaves the job with its holder when the callback throws', async () => {
    const job = await take();
    const failing = ship(job, () => {
      throw new Failed();
    });
    await expect(failing).rejects.toThrow(Failed);
    await nothingDone();
    expect(await orders.counts()).toEqual({ ...NONE, processing: 1 });
    expect(await job.extend()).toBe(true);
    expect(await job.ack()).toBe(true);
  });

  it('[QU-30] has no effect if the job was given to another consumer', async () => {
    const stale = await take();
    await endLease(stale);
    const fresh = (await orders.take())!;
    await expect(ship(stale)).rejects.toMatchObject({ code: 'LEASE_LOST', outcome: 'not-applied' });
    await nothingDone();
    expect(fresh.signal.aborted).toBe(false);
    expect(await ship(fresh)).toBe(1);
    await expect(ship(stale)).rejects.toThrow(LeaseLostError);
    expect(await target.client.get(KEY)).toBe('1');
  });

  it('[QU-30] has no effect if the job was acknowledged, retried or requeued meanwhile', async () => {
    const job = await take();
    // By a copy of it that Redis had an answer for: only Redis can tell.
    await target.client.zrem(`atomic:queue:leases:{shop}:${ORDERS}`, job.id);
    await expect(ship(job)).rejects.toThrow(LeaseLostError);
    await nothingDone();
  });

  it('[QU-30] keeps the job from other consumers for its whole time-out, whatever the lease', async () => {
    const short = target.redis.queues.get<Order>(ORDERS, { leaseMs: 1_200 });
    const job = await take(short);
    let given: unknown;
    const shipped = await target.redis.transactions.run(
      [KEY],
      async (tx) => {
        tx.write.incr(KEY);
        given = await short.take({ waitMs: 2_000, propagation: 'outside' });
        return 'shipped';
      },
      { completesJob: job, timeoutMs: 20_000 },
    );
    expect(shipped).toBe('shipped');
    expect(given).toBeNull();
    expect(await orders.counts()).toEqual(NONE);
  });

  it('[QU-30] refuses any other settling or extension of the job meanwhile', async () => {
    const job = await take();
    const refused: unknown[] = [];
    await ship(job, async () => {
      // Of this attempt: where WATCH was answered late there is another.
      refused.length = 0;
      const outside = { propagation: 'outside' } as const;
      for (const call of [
        () => job.ack(outside),
        () => job.ackAndTakeNext(outside),
        () => job.retry(outside),
        () => job.extend(outside),
        () => target.redis.transactions.run([KEY], () => 1, { completesJob: job, propagation: 'new' }),
      ])
        refused.push(await call().catch((error: unknown) => error));
    });
    expect(refused).toHaveLength(5);
    for (const error of refused) expect(error).toBeInstanceOf(IllegalTransactionStateError);
    expect(await target.client.get(KEY)).toBe('1');
    expect(await orders.counts()).toEqual(NONE);
  });

  it('[QU-30] completes a job only once', async () => {
    const job = await take();
    await ship(job);
    await expect(ship(job)).rejects.toThrow(IllegalTransactionStateError);
    const acknowledged = await take();
    await acknowledged.ack();
    await expect(ship(acknowledged)).rejects.toThrow(IllegalTransactionStateError);
    expect(await target.client.get(KEY)).toBe('1');
  });

  it('[QU-30] lets an extension in progress end first', async () => {
    const job = await take();
    const extending = job.extend();
    await ship(job);
    expect(await extending).toBe(true);
    expect(job.signal.aborted).toBe(false);
  });

  it('[QU-30] works together with the record of an idempotent run', async () => {
    const job = await take();
    const handle = (): Promise<number> =>
      target.redis.idempotency.run(
        job.id,
        () =>
          target.redis.transactions.run(
            [KEY],
            async (tx) => {
              const shipped = Number(await tx.read.get(KEY)) + 1;
              tx.write.set(KEY, shipped);
              return shipped;
            },
            { completesJob: job, completesRun: (shipped) => shipped },
          ),
        { colocateWith: KEY },
      );
    expect(await handle()).toBe(1);
    expect(await orders.counts()).toEqual(NONE);
    expect(await handle()).toBe(1);
    expect(await target.client.get(KEY)).toBe('1');
    const lost = await take();
    await endLease(lost);
    await orders.take();
    const failing = target.redis.idempotency.run('other', () => ship(lost), { colocateWith: KEY });
    await expect(failing).rejects.toThrow(LeaseLostError);
    expect(await target.client.get(KEY)).toBe('1');
  });

  it('[QU-30] reports that the job is done if a write failed inside EXEC', async () => {
    const job = await take();
    await target.client.set(KEY, 'text');
    const partial = target.redis.transactions.run([KEY], (tx) => void tx.write.incr(KEY), {
      completesJob: job,
    });
    await expect(partial).rejects.toThrow(PartialCommitError);
    expect(await job.ack()).toBe(true);
    expect(await orders.counts()).toEqual(NONE);
  });

  it('[QU-30] reports that the effects remain if Redis refused the acknowledgement inside EXEC', async () => {
    // Keeps the next attempt from starting again after the damage.
    await ship(await take());
    const job = await take();
    const key = `atomic:queue:history:{shop}:${ORDERS}`;
    const damaged = ship(job, () => target.client.set(key, 'of another type'));
    await expect(damaged).rejects.toMatchObject({ code: 'PARTIAL_COMMIT', completionFailed: true });
    expect(await target.client.get(KEY)).toBe('2');
    await expect(job.ack()).rejects.toMatchObject({ outcome: 'unknown' });
    await target.client.del(key);
  });

  it('[QU-30] refuses a job of another registration, and a transaction that joins another', async () => {
    const { transactions } = target.redis;
    for (const job of [1, null, {}, { id: 'x' }, 'id'])
      await expect(transactions.run([KEY], () => 1, { completesJob: job as never })).rejects.toThrow(
        InvalidArgumentError,
      );
    const another = await target.another();
    const theirs = await take(another.get(AtomicRedis).queues.get<Order>(ORDERS));
    await expect(ship(theirs)).rejects.toThrow(/another registration/);
    await another.close();
    const job = await take();
    const joined = transactions.run([KEY], () => ship(job));
    await expect(joined).rejects.toThrow(/completesJob belongs to the outermost transaction/);
    await nothingDone();
    expect(await job.ack()).toBe(true);
  });
});

describe('a transaction that completes a job on one server', () => {
  const target = useTarget('one server');

  it('[QU-30] sets the deadline key again if Redis has lost it', async () => {
    const { queues, transactions } = target.redis;
    const queue = queues.get<Order>('orders');
    const complete = async (): Promise<void> => {
      await queue.push({ id: 1 });
      const job = (await queue.take())!;
      await transactions.run(['k'], (tx) => void tx.write.incr('k'), { completesJob: job, maxAttempts: 1 });
    };
    await complete();
    await target.client.del(...(await target.client.keys('atomic:transaction-deadline:*')));
    const startedAt = performance.now();
    await complete();
    // Not by waiting until the key would have expired.
    expect(performance.now() - startedAt).toBeLessThan(5_000);
    expect(await target.client.get('k')).toBe('2');
  });

  it('[QU-30] takes no extra round trip while the lease is long enough', async () => {
    const { queues, transactions } = target.redis;
    const queue = queues.get<Order>('orders');
    await queue.push({ id: 1 });
    await queue.push({ id: 2 });
    const complete = async (): Promise<void> => {
      const job = (await queue.take())!;
      await transactions.run(['k'], (tx) => void tx.write.incr('k'), { completesJob: job });
    };
    await complete();
    const { set, ...used } = await countCommands(target.client, complete);
    expect(set).toBeGreaterThan(0);
    expect(used).toMatchObject({
      evalsha: 1,
      watch: 1,
      pttl: 1,
      multi: 1,
      incr: 1,
      exec: 1,
    });
  });
});

describe('a handler that does not await the transaction that completes its job', () => {
  const target = useTarget('one server');

  it('[QU-30] waits for it, and fails with it', async () => {
    const queue = target.redis.queues.get<Order>('orders', {
      maxDeliveries: 2,
      retry: { minMs: 0, maxMs: 0 },
    });
    let deliveries = 0;
    const consumer = queue.consume((job) => {
      const fails = ++deliveries === 1;
      void target.redis.transactions.run(
        [KEY],
        async (tx) => {
          await tx.read.get(KEY);
          if (fails) throw new Failed();
          tx.write.incr(KEY);
        },
        { completesJob: job },
      );
    });
    await queue.push({ id: 1 });
    await waitFor('the effect', async () => (await target.client.get(KEY)) === '1');
    await consumer.stop();
    expect(await queue.counts()).toEqual(NONE);
    expect(deliveries).toBe(2);
  });

  it('[QU-30] fails with one that failed before it ended, unless it awaited the result', async () => {
    const queue = target.redis.queues.get<Order>('orders', {
      maxDeliveries: 2,
      retry: { minMs: 0, maxMs: 0 },
    });
    let failed = 0;
    const unsubscribe = target.redis.events.subscribe(
      ({ type }) => void (type === 'transactions.run' && failed++),
    );
    let deliveries = 0;
    const consumer = queue.consume(async (job) => {
      const [delivery, before] = [++deliveries, failed];
      const running = target.redis.transactions.run(
        [KEY],
        () => {
          throw new Failed();
        },
        { completesJob: job },
      );
      await waitFor('the failure', () => failed > before);
      if (delivery === 2) await expect(running).rejects.toThrow(Failed);
    });
    await queue.push({ id: 1 });
    await waitFor('the second delivery', () => deliveries === 2);
    await consumer.stop();
    unsubscribe();
    expect(await queue.counts()).toEqual(NONE);
    expect(deliveries).toBe(2);
  });

  it.each([new Failed(), new InvalidArgumentError('a', 'b', 1)])(
    '[QU-30] has settled its job even if onReplies throws: %p',
    async (error) => {
      const queue = target.redis.queues.get<Order>('orders');
      await queue.push({ id: 1 });
      const job = (await queue.take())!;
      const onReplies = (): never => {
        throw error;
      };
      const running = target.redis.transactions.run([KEY], (tx) => void tx.write.incr(KEY), {
        completesJob: job,
        onReplies,
      });
      await expect(running).rejects.toBe(error);
      expect(await job.ack()).toBe(true);
      expect(await job.retry()).toBe(false);
    },
  );
});

describe('a transaction that completes a job on a Cluster', () => {
  const target = useTarget('a Cluster');

  it('[QU-30] refuses a job whose queue lies in another slot, before any I/O', async () => {
    const queue = target.redis.queues.get<Order>('orders');
    await queue.push({ id: 1 });
    const job = (await queue.take())!;
    const refused = target.redis.transactions.run([KEY], (tx) => void tx.write.incr(KEY), {
      completesJob: job,
    });
    await expect(refused).rejects.toThrow(CrossSlotError);
    await expect(refused).rejects.toMatchObject({
      keys: [KEY, 'orders'],
      message: expect.stringMatching(/The last is the queue of the job/) as string,
    });
    expect(await job.ack()).toBe(true);
  });
});

@Injectable()
class Shipping {
  begin: (job: QueueJob<Order>) => unknown = () => undefined;

  constructor(
    @InjectTransaction() private readonly tx: Transaction,
    private readonly redis: AtomicRedis,
  ) {}

  @QueueConsumer('orders', { maxDeliveries: 2, retry: { minMs: 0, maxMs: 0 } })
  @OptimisticRetry({
    watch: (job: QueueJob<Order>) => `stock:${job.payload.id}`,
    completesJob: (job: QueueJob<Order>) => job,
  })
  async ship(job: QueueJob<Order>): Promise<void> {
    const left = Number(await this.tx.read.get(`stock:${job.payload.id}`)) - 1;
    await this.begin(job);
    this.tx.write.set(`stock:${job.payload.id}`, left);
    this.tx.push(this.redis.queues.get('mails'), job.payload.id);
  }
}

describe('a consumer whose transaction completes its job', () => {
  const target = useTarget('one server');

  const open = async () => {
    const app = await Test.createTestingModule({
      imports: [
        AtomicRedisModule.forRoot({
          connection: target.connection(),
          namespace: 'atomic:',
          shutdownTimeoutMs: 300,
        }),
      ],
      providers: [Shipping],
    }).compile();
    app.useLogger(false);
    const events: AtomicRedisEvent[] = [];
    app.get(AtomicRedisEvents).subscribe((event) => events.push(event));
    await app.init();
    const ended = (): string[] =>
      events.flatMap((event) => (event.type === 'queues.process' ? [event.ended] : []));
    const { queues } = app.get(AtomicRedis);
    return {
      app,
      shipping: app.get(Shipping),
      ended,
      orders: queues.get<Order>('orders'),
      mails: queues.get('mails'),
    };
  };

  it('[QU-30] has completed it when the method settles, and continues with the next', async () => {
    const { app, ended, orders, mails } = await open();
    await orders.pushMany([{ id: 1 }, { id: 1 }, { id: 1 }]);
    await waitFor('all', () => ended().length === 3);
    expect(ended()).toEqual(['acknowledged', 'acknowledged', 'acknowledged']);
    expect(await target.client.get('stock:1')).toBe('-3');
    expect(await mails.counts()).toEqual({ ...NONE, pending: 3 });
    expect(await orders.counts()).toEqual(NONE);
    await app.close();
  });

  it('[QU-30] retries it when the callback throws, and nothing of the transaction is applied', async () => {
    const { app, shipping, ended, orders, mails } = await open();
    shipping.begin = () => {
      throw new Failed();
    };
    await orders.push({ id: 1 });
    await waitFor('the dead letter', async () => (await orders.counts()).dead === 1);
    await waitFor('the event', () => ended().length === 2);
    expect(ended()).toEqual(['retried', 'dead']);
    expect(await target.client.exists('stock:1')).toBe(0);
    expect(await mails.counts()).toEqual(NONE);
    await app.close();
  });

  it('[QU-30] returns the job whole when the consumer is stopped in the middle of it', async () => {
    const { app, shipping, ended, orders, mails } = await open();
    let failure: unknown;
    let begun = false;
    let goOn!: () => void;
    const waiting = new Promise<void>((resolve) => (goOn = resolve));
    shipping.begin = () => {
      begun = true;
      return waiting;
    };
    const ship = shipping.ship.bind(shipping);
    shipping.ship = (job) => ship(job).catch((error: unknown) => void (failure = error));
    await orders.push({ id: 1 });
    await waitFor('the work', () => begun);
    const closing = app.close();
    await waitFor('the job is given back', () => ended().length === 1);
    goOn();
    await closing;
    expect(ended()).toEqual(['released']);
    await waitFor('the failure', () => failure !== undefined);
    expect(failure).toBeInstanceOf(Error);
    expect(await target.client.exists('stock:1')).toBe(0);
    expect(await target.redis.queues.get('mails').counts()).toEqual(NONE);
    expect(await target.redis.queues.get('orders').counts()).toEqual({ ...NONE, pending: 1 });
    void mails;
  });
});
