import { setTimeout as sleep } from 'node:timers/promises';
import {
  Controller,
  Inject,
  Injectable,
  Module,
  Scope,
  type BeforeApplicationShutdown,
  type Type,
} from '@nestjs/common';
import { Test } from '@nestjs/testing';
import {
  AtomicRedis,
  AtomicRedisEvents,
  AtomicRedisModule,
  ConfigurationError,
  Idempotent,
  LeaseLostError,
  ModuleClosedError,
  RedisUnavailableError,
  QueueConsumer,
  ReliableQueueService,
  type AtomicRedisOptions,
  type QueueJob,
  type ReliableQueue,
  type RunningConsumer,
} from '../../lib/index.js';
import { startFaultProxy } from '../../lib/testing/index.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

/** A promise and what settles it. */
function gate(): { open: () => void; passed: Promise<void> } {
  let open = (): void => undefined;
  const passed = new Promise<void>((resolve) => (open = resolve));
  return { open, passed };
}

describe('@QueueConsumer', () => {
  const redis = useRedis();
  const closing: (() => Promise<void>)[] = [];
  afterEach(async () => {
    await Promise.all(closing.splice(0).map((close) => close()));
  });

  const start = async (
    providers: Type[],
    options: Partial<AtomicRedisOptions> & { controllers?: Type[] } = {},
  ) => {
    const { controllers = [], ...rest } = options;
    const app = await Test.createTestingModule({
      imports: [AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:', ...rest })],
      providers,
      controllers,
    }).compile();
    app.useLogger(false);
    let closed: Promise<void> | undefined;
    const close = () => (closed ??= app.close());
    closing.push(close);
    await app.init();
    return { queues: app.get(ReliableQueueService), close, app };
  };
  const idle = (queue: Pick<ReliableQueue, 'counts'>) =>
    waitFor('all jobs are done', async () => {
      const { pending, processing } = await queue.counts();
      return pending + processing === 0;
    });

  it('[QU-15] runs a provider’s method for every job, concurrency at a time', async () => {
    const seen: string[] = [];
    let running = 0;
    let most = 0;
    const allFour = gate();
    @Injectable()
    class Mailer {
      private readonly self = this;
      @QueueConsumer('emails', { concurrency: 4 })
      async send(job: QueueJob<{ to: string }>) {
        expect(this.self).toBe(this);
        most = Math.max(most, ++running);
        if (running === 4) allFour.open();
        await allFour.passed;
        seen.push(job.payload.to);
        running--;
      }
    }
    const { queues } = await start([Mailer]);
    const emails = queues.get<{ to: string }>('emails');
    await emails.pushMany(Array.from({ length: 40 }, (_, i) => ({ to: String(i) })));
    await idle(emails);
    expect(seen.map(Number).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, i) => i));
    expect(most).toBe(4);
  });

  it('[QU-15] works on controllers, on inherited methods, on several queues, in bytes, and beside other decorators', async () => {
    const seen: string[] = [];
    class Base {
      @QueueConsumer('inherited')
      run(job: QueueJob<string>) {
        seen.push(`${this.constructor.name} ${job.payload}`);
      }
    }
    @Injectable()
    class Derived extends Base {}
    @Controller()
    class Ctrl {
      @QueueConsumer('one')
      @QueueConsumer('two')
      both(job: QueueJob<string>) {
        seen.push(job.payload);
      }
      @QueueConsumer('raw', { format: 'bytes' })
      raw(job: QueueJob<Buffer>) {
        seen.push(job.payload.toString('hex'));
      }
    }
    @Injectable()
    class Once {
      @Idempotent({ operation: 'once.run', key: (job: QueueJob<string>) => job.payload })
      @QueueConsumer('once')
      async run(job: QueueJob<string>) {
        seen.push(`once ${job.payload}`);
      }
    }
    const { queues } = await start([Derived, Once, { provide: 'ALIAS', useExisting: Derived } as never], {
      controllers: [Ctrl],
    });
    await queues.get<string>('inherited').push('a');
    await queues.get<string>('one').push('1');
    await queues.get<string>('two').push('2');
    await queues.get('raw', { format: 'bytes' }).push(Buffer.from([0, 255]));
    await queues.get<string>('once').pushMany(['x', 'x', 'x']);
    for (const name of ['inherited', 'one', 'two', 'raw', 'once']) await idle(queues.get(name));
    expect(seen.toSorted()).toEqual(['00ff', '1', '2', 'Derived a', 'once x']);
  });

  it('[QU-15] retries a job whose method throws, and gives it up with the error', async () => {
    const deliveries: number[] = [];
    @Injectable()
    class Mailer {
      @QueueConsumer('emails', { maxDeliveries: 3, retry: { minMs: 1, maxMs: 20 } })
      send(job: QueueJob<string>): void {
        if (job.payload === 'fine') return;
        deliveries.push(job.deliveries);
        throw new RangeError('no such address');
      }
    }
    const { queues } = await start([Mailer]);
    const emails = queues.get<string>('emails');
    const [id] = await emails.pushMany(['poison', 'fine', 'fine']);
    await idle(emails);
    expect(deliveries).toEqual([1, 2, 3]);
    expect(await emails.deadLetters.list()).toMatchObject([
      { id, payload: 'poison', deliveries: 3, reason: 'RangeError: no such address' },
    ]);
  });

  it('[QU-15] leaves a job alone that its method has settled itself', async () => {
    @Injectable()
    class Mailer {
      @QueueConsumer('emails', { maxDeliveries: 2 })
      async send(job: QueueJob<string>) {
        if (job.payload === 'retry') await job.retry({ reason: 'myself' });
        else {
          await job.ack();
          throw new Error('after it was acknowledged');
        }
      }
    }
    const { queues } = await start([Mailer]);
    const emails = queues.get<string>('emails');
    await emails.pushMany(['retry', 'ack']);
    await idle(emails);
    expect(await emails.deadLetters.list()).toMatchObject([
      { payload: 'retry', deliveries: 2, reason: 'myself' },
    ]);
  });

  it('[QU-15] does not report a lost lease for a job that its method has settled', async () => {
    const { queues, app } = await start([]);
    const events: string[] = [];
    app.get(AtomicRedisEvents).subscribe(({ type }) => events.push(type));
    const queue = queues.get<string>('q', { leaseMs: 3_000 });
    const done = gate();
    let job: QueueJob<string> | undefined;
    queue.consume(async (given) => {
      await given.ack();
      job = given;
      await done.passed;
    });
    await queue.push('a');
    await waitFor('it is acknowledged', () => job !== undefined);
    // Longer than until the first renewal, which would find it gone.
    await sleep(1_800);
    expect(job!.signal.aborted).toBe(false);
    done.open();
    await waitFor('its end is told', () => events.includes('queues.process'));
    expect(events).not.toContain('lease.lost');
  });

  it('[QU-15] retries at once even after a thrown value without text, and if the logger throws', async () => {
    const { queues, app } = await start([]);
    const fail = (): never => {
      throw new Error('from the logger');
    };
    const unspeakable = Object.assign(new Error(), { message: Symbol('no text') });
    const queue = queues.get<string>('q', { maxDeliveries: 2 });
    const handler = (): never => {
      throw unspeakable;
    };
    const first = queue.consume(handler);
    await queue.pushMany(['a', 'b']);
    await idle(queue);
    await first.stop();
    app.useLogger({ log: fail, warn: fail, error: fail });
    try {
      queue.consume(handler);
      await queue.pushMany(['c', 'd']);
      await idle(queue);
    } finally {
      app.useLogger(false);
    }
    const letters = await queue.deadLetters.list();
    expect(letters.map(({ payload, deliveries }) => `${payload} ${deliveries}`).toSorted()).toEqual([
      'a 2',
      'b 2',
      'c 2',
      'd 2',
    ]);
  });

  it('[QU-17] ends a consumer that is started while the application shuts down', async () => {
    let consumer: RunningConsumer | undefined;
    @Injectable()
    class Late implements BeforeApplicationShutdown {
      constructor(private readonly queues: ReliableQueueService) {}
      beforeApplicationShutdown(): void {
        consumer = this.queues.get('q').consume(() => undefined);
      }
    }
    const { close } = await start([Late]);
    await close();
    await expect(consumer!.ended()).resolves.toBeUndefined();
  });

  it('[QU-17] does not wait for a job of a queue that is first used while the application shuts down', async () => {
    const { queues, close, app } = await start([]);
    const slow = gate();
    // Keeps the connection open for as long as it runs.
    const work = app.get(AtomicRedis).transactions.run(['k'], () => slow.passed);
    const known = queues.get('known').take({ waitMs: 60_000 });
    const closed = close();
    await expect(known).rejects.toBeInstanceOf(ModuleClosedError);
    const first = queues.get('never-named-before').take({ waitMs: 60_000 });
    await expect(first).rejects.toBeInstanceOf(ModuleClosedError);
    slow.open();
    await Promise.all([closed, work]);
    await waitFor('no caller blocks', async () =>
      (await redis.client.info('clients')).includes('blocked_clients:0'),
    );
  });

  it('[QU-17] gives back a job that a late acknowledgement took with it', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    closing.push(() => proxy.stop());
    const { queues, close } = await start([], { connection: proxy.url, shutdownTimeoutMs: 300 });
    const queue = queues.get<string>('q');
    const done = gate();
    let runs = 0;
    queue.consume(async () => {
      runs++;
      await done.passed;
    });
    await queue.pushMany(['a', 'b']);
    await waitFor('it runs', () => runs === 1);
    // The end of the first job takes the second one, and is answered only after the time is up.
    const slow = proxy.delay({ replyMs: 2_500, match: ({ name }) => name === 'EVALSHA', times: 1 });
    done.open();
    await waitFor('the end is on its way', () => slow.count === 1);
    await close();
    expect(runs).toBe(1);
    const later = (await start([])).queues.get('q');
    expect(await later.counts()).toEqual({ pending: 1, delayed: 0, processing: 0, dead: 0 });
  });

  it('[QU-16] renews the lease of a long-running job', async () => {
    const { queues } = await start([]);
    const slow = queues.get<string>('slow', { leaseMs: 3_000 });
    const done = gate();
    let runs = 0;
    let signal: AbortSignal | undefined;
    slow.consume(async (job) => {
      runs++;
      ({ signal } = job);
      await done.passed;
    });
    await slow.push('a');
    await waitFor('it runs', () => runs === 1);
    const other = await start([]);
    expect(await other.queues.get('slow').take({ waitMs: 5_000 })).toBeNull();
    done.open();
    await idle(slow);
    expect(runs).toBe(1);
    expect(signal!.aborted).toBe(false);
  });

  it('[QU-16] aborts a job’s signal when its lease was lost, and leaves the new owner alone', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    const { queues } = await start([], { connection: proxy.url });
    const mine = queues.get<string>('q', { leaseMs: 1_500 });
    const lost = gate();
    const finish = gate();
    let reason: unknown;
    mine.consume(async (job) => {
      job.signal.addEventListener('abort', () => {
        reason = job.signal.reason;
        lost.open();
      });
      await finish.passed;
    });
    await mine.push('a');
    await waitFor('it is taken', async () => (await mine.counts()).processing === 1);
    const consumer = [...(queues as unknown as { consumers: Set<{ stop(): Promise<void> }> }).consumers][0]!;
    proxy.pause();
    await lost.passed;
    expect(reason).toBeInstanceOf(LeaseLostError);
    const other = await start([]);
    const theirs = other.queues.get<string>('q');
    const job = (await theirs.take({ waitMs: 10_000 }))!;
    expect(job.deliveries).toBe(2);
    proxy.resume();
    finish.open();
    await consumer.stop();
    expect(await job.ack()).toBe(true);
    await proxy.stop();
  });

  it('[QU-17] stops on shutdown: it takes no new job, and waits for the running ones', async () => {
    const begun: string[] = [];
    const finish = gate();
    @Injectable()
    class Mailer {
      @QueueConsumer('emails')
      async send(job: QueueJob<string>) {
        begun.push(job.payload);
        await finish.passed;
      }
    }
    const { queues, close } = await start([Mailer]);
    const emails = queues.get<string>('emails');
    await emails.pushMany(['a', 'b']);
    await waitFor('it runs', () => begun.length === 1);
    const closed = close();
    finish.open();
    await closed;
    expect(begun).toEqual(['a']);
    const { queues: later } = await start([]);
    expect(await later.get('emails').counts()).toEqual({ pending: 1, delayed: 0, processing: 0, dead: 0 });
  });

  it('[QU-17] gives back the jobs that still run at the shutdown time-out, however often they were delivered', async () => {
    const signals: AbortSignal[] = [];
    @Injectable()
    class Mailer {
      @QueueConsumer('emails', { concurrency: 2, maxDeliveries: 1 })
      async send(job: QueueJob<string>) {
        signals.push(job.signal);
        await new Promise(() => undefined);
      }
    }
    const { queues, close } = await start([Mailer], { shutdownTimeoutMs: 200 });
    await queues.get<string>('emails').pushMany(['a', 'b', 'c']);
    await waitFor('they run', () => signals.length === 2);
    const began = performance.now();
    await close();
    // 200 ms for the jobs, and a second at the most for the BLMOVE under way.
    expect(performance.now() - began).toBeLessThan(6_000);
    expect(signals.map(({ reason }) => (reason as Error).name)).toEqual(['LeaseLostError', 'LeaseLostError']);
    const later = (await start([])).queues.get<string>('emails');
    expect(await later.counts()).toEqual({ pending: 3, delayed: 0, processing: 0, dead: 0 });
    expect(new Set([(await later.take())?.payload, (await later.take())?.payload])).toEqual(
      new Set(['a', 'b']),
    );
  });

  it('[QU-17] moves no job once shutdown has resolved', async () => {
    @Injectable()
    class Mailer {
      @QueueConsumer('emails', { concurrency: 3 })
      send(): void {
        throw new Error('not any more');
      }
    }
    const { close } = await start([Mailer]);
    await waitFor('BZPOPMIN blocks', async () =>
      (await redis.client.info('clients')).includes('blocked_clients:1'),
    );
    await close();
    const id = await (await start([])).queues.get('emails').push('a');
    expect((await redis.client.info('clients')).includes('blocked_clients:0')).toBe(true);
    expect(await redis.client.lrange('atomic:queue:pending:{emails}:emails', 0, -1)).toEqual([id]);
  });

  it('[QU-17] can be stopped individually, and closes in time even if Redis is gone', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    const { queues, close } = await start([], { connection: proxy.url, shutdownTimeoutMs: 300 });
    const queue = queues.get<string>('q');
    let runs = 0;
    const consumer = queue.consume(() => void runs++);
    await queue.push('a');
    await waitFor('it ran', () => runs === 1);
    await consumer.stop();
    await consumer.stop();
    await queue.push('b');
    queue.consume(() => new Promise(() => undefined));
    await waitFor('it is taken', async () => (await queue.counts()).processing === 1);
    expect(runs).toBe(1);
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    const began = performance.now();
    await close();
    expect(performance.now() - began).toBeLessThan(9_000);
    await proxy.stop();
  });

  it('[QU-15] continues by itself after an outage of Redis', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    const { queues } = await start([], { connection: proxy.url, timeoutMs: 1_000 });
    const queue = queues.get<string>('q');
    const seen: string[] = [];
    queue.consume((job) => void seen.push(job.payload), { concurrency: 2 });
    await queue.push('a');
    await waitFor('it ran', () => seen.length === 1);
    await idle(queue);
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    const outside = (await start([])).queues.get<string>('q');
    await outside.push('b');
    await expect(queue.counts()).rejects.toThrow(RedisUnavailableError);
    proxy.refuseConnections(false);
    await waitFor('it goes on', () => seen.length === 2);
    await idle(outside);
    await proxy.stop();
  });

  it('[QU-18] belongs to its registration', async () => {
    const seen: string[] = [];
    @Injectable()
    class Mailer {
      @QueueConsumer('emails', { name: 'mail' })
      send(job: QueueJob<string>) {
        seen.push(job.payload);
      }
      constructor(@Inject(AtomicRedis) readonly unnamed: AtomicRedis) {}
    }
    @Module({
      imports: [
        AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:' }),
        AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'mail:', name: 'mail' }),
      ],
      providers: [Mailer],
    })
    class App {}
    const app = await Test.createTestingModule({ imports: [App] }).compile();
    await app.init();
    const { queues } = app.get(Mailer).unnamed;
    await queues.get<string>('emails').push('theirs');
    const other = await start([], { namespace: 'mail:' });
    await other.queues.get<string>('emails').push('mine');
    await waitFor('it ran', () => seen.length === 1);
    await app.close();
    expect(seen).toEqual(['mine']);
    expect((await (await start([])).queues.get('emails').counts()).pending).toBe(1);
  });

  it('[QU-18] refuses to boot without the module, and on a class without a single instance', async () => {
    @Injectable()
    class Forgotten {
      @QueueConsumer('q')
      run(): void {}
    }
    await expect(Test.createTestingModule({ providers: [Forgotten] }).compile()).rejects.toThrow(
      /nestjs-atomic-redis/,
    );
    @Injectable({ scope: Scope.REQUEST })
    class PerRequest {
      @QueueConsumer('q')
      run(): void {}
    }
    @Injectable()
    class Dependent {
      constructor(@Inject(PerRequest) readonly inner: PerRequest) {}
      @QueueConsumer('other')
      run(): void {}
    }
    @Injectable({ scope: Scope.TRANSIENT })
    class Transient {
      @QueueConsumer('q')
      run(): void {}
    }
    for (const providers of [[PerRequest], [PerRequest, Dependent], [Transient]])
      await expect(start(providers)).rejects.toBeInstanceOf(ConfigurationError);
  });

  it('[WRAP-3] refuses anything but a method', () => {
    expect(() => {
      class Wrong {
        @QueueConsumer('q')
        static run(): void {}
      }
      return Wrong;
    }).toThrow(/@QueueConsumer\(\) goes on a method of a class, but Wrong.run is a static member/);
  });

  it('[ARG-1] refuses wrong options at the place of the decorator', () => {
    expect(() => QueueConsumer('')).toThrow(/@QueueConsumer.queue must be a non-empty string/);
    expect(() => QueueConsumer('q', { concurrency: 0 })).toThrow(/@QueueConsumer.concurrency/);
    expect(() => QueueConsumer('q', { retries: 1 } as never)).toThrow(/@QueueConsumer.retries/);
  });
});
