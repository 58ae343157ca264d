import { fc } from '../support/property.js';
import {
  AtomicRedisEvents,
  AtomicRedisModule,
  getAtomicRedisToken,
  OutcomeUnknownError,
  type AtomicRedis,
  type AtomicRedisEvent,
} from 'nestjs-atomic-redis';
import { gate } from '../idempotency/support.js';
import { useApp } from '../support/app.js';
import { waitFor } from '../support/wait-for.js';
import { isTerminal, useObserved } from './support.js';
import { damageRecord } from '../support/idempotency-record.js';

const typesOf = (events: readonly AtomicRedisEvent[]): string[] => events.map(({ type }) => type);

class NotEnough extends Error {}

describe('the final events of operations', () => {
  const observed = useObserved();
  const exec = { match: ({ name }: { name: string }) => name === 'EXEC' };
  const script = { match: ({ name }: { name: string }) => name === 'EVALSHA' };

  it('[OBS-2] report a transaction in conflict once, with its attempts', async () => {
    const { redis, during } = await observed.start();
    const disturb = () => observed.server.client.append('k', 'y');
    let attempts = 0;
    const events = await during(() =>
      redis.transactions.run(['k'], async (tx) => {
        attempts = tx.attempt;
        await tx.read.get('k');
        if (tx.attempt < 3) await disturb();
        tx.write.set('k', 'x');
      }),
    );
    // An attempt whose WATCH was answered late is made again without a conflict.
    const applied = { type: 'transactions.run', outcome: 'applied', attempts, conflicts: expect.any(Number) };
    expect(events).toEqual([expect.objectContaining(applied)]);
    const [{ conflicts }] = events as unknown as [{ conflicts: number }];
    expect([1, 2]).toContain(conflicts);
    const exhausted = await during(() =>
      redis.transactions.run(
        ['k'],
        async (tx) => {
          await tx.read.get('k');
          await disturb();
          tx.write.set('k', 'x');
        },
        { maxAttempts: 2 },
      ),
    );
    expect(exhausted).toEqual([
      expect.objectContaining({
        outcome: 'not-applied',
        error: 'TRANSACTION_CONFLICT',
        conflicts: 2,
      }),
    ]);
  });

  it('[OBS-2] report a transaction whose callback throws by the class of the error; a joined one is part of it', async () => {
    const { redis, during } = await observed.start();
    const { transactions } = redis;
    const failing = () => {
      throw new NotEnough('account:secret');
    };
    expect(await during(() => transactions.run(['k'], failing))).toEqual([
      expect.objectContaining({ outcome: 'not-applied', error: 'NotEnough', conflicts: 0 }),
    ]);
    const joined = await during(() =>
      transactions.run(['k'], async (tx) => {
        await transactions.run(['j'], (inner) => void inner.write.incr('j'));
        await transactions.run(['n'], (own) => void own.write.incr('n'), { propagation: 'new' });
        tx.write.incr('k');
      }),
    );
    expect(typesOf(joined)).toEqual(['transactions.run', 'transactions.run']);
    for (const hostile of [null, undefined, 'text', Object.create(null), new Proxy({}, { get: failing })])
      expect(
        await during(() =>
          transactions.run(['k'], () => {
            throw hostile;
          }),
        ),
      ).toEqual([expect.objectContaining({ outcome: 'not-applied', error: expect.any(String) })]);
  });

  it('[OBS-2] report the resolution of lost replies beside the one final event', async () => {
    const { redis, during } = await observed.start();
    await redis.counters.add('n', 1);
    await redis.transactions.run(['k'], (tx) => void tx.write.incr('k'));
    observed.proxy.loseReplies(script);
    expect(await during(() => redis.counters.add('n', 1))).toEqual([
      expect.objectContaining({ type: 'outcome.resolved', command: 'counters.apply', outcome: 'applied' }),
      expect.objectContaining({ type: 'counters.add', outcome: 'applied' }),
    ]);
    observed.proxy.loseReplies(exec);
    expect(await during(() => redis.transactions.run(['k'], (tx) => void tx.write.incr('k')))).toEqual([
      expect.objectContaining({ type: 'outcome.resolved', command: 'EXEC', outcome: 'applied' }),
      expect.objectContaining({ type: 'transactions.run', outcome: 'applied', conflicts: 0 }),
    ]);
    observed.proxy.cutBeforeServer(exec);
    expect(await during(() => redis.transactions.run(['k'], (tx) => void tx.write.incr('k')))).toEqual([
      expect.objectContaining({ type: 'outcome.resolved', command: 'EXEC', outcome: 'not-applied' }),
      expect.objectContaining({ type: 'transactions.run', outcome: 'applied', attempts: 2, conflicts: 0 }),
    ]);
    observed.proxy.loseReplies(script);
    expect(await during(() => redis.counters.add('n', 1, { deduplicate: false }))).toEqual([
      expect.objectContaining({ type: 'counters.add', outcome: 'unknown', error: 'OUTCOME_UNKNOWN' }),
    ]);
  });

  it('[OBS-2] report adds that share a batch one by one', async () => {
    const { redis, during } = await observed.start();
    const adds = () => Promise.all(Array.from({ length: 20 }, () => redis.counters.add('n', 1, { max: 15 })));
    const events = await during(adds);
    expect(events.filter(isTerminal)).toHaveLength(20);
    expect(events.filter((event) => 'outcome' in event && event.outcome === 'not-applied')).toHaveLength(5);
  });

  it('[OBS-2] report a long wait for a connection', async () => {
    const { redis, events } = await observed.start({ transactions: { maxConnections: 1 } });
    const held = gate();
    const first = redis.transactions.run(['a'], () => held.promise);
    const second = redis.transactions.run(['b'], () => undefined);
    await new Promise((resolve) => setTimeout(resolve, 150));
    held.resolve();
    await Promise.all([first, second]);
    await waitFor('both ends', () => events.filter(isTerminal).length === 2);
    const waits = events.flatMap((event) => (event.type === 'pool.wait' ? [event.waitedMs] : []));
    expect(Math.max(...waits)).toBeGreaterThan(100);
  });

  it('[OBS-2] report every call of an idempotent run by one event', async () => {
    const { redis, during } = await observed.start();
    const { idempotency } = redis;
    const run = (work: () => unknown, options = {}) =>
      during(() => idempotency.run('raw-key', work, { operation: 'orders.create', ...options }));
    const failing = () => {
      throw new NotEnough('raw-key');
    };
    const common = {
      operation: 'orders.create',
      record: expect.stringMatching(/^atomic:idempotency:[\w-]+$/),
    };
    expect(await run(failing)).toEqual([
      expect.objectContaining({ ...common, outcome: 'released', error: 'NotEnough' }),
    ]);
    expect(
      await run(() => {
        throw new OutcomeUnknownError('raw-key');
      }),
    ).toEqual([expect.objectContaining({ ...common, outcome: 'held', error: 'OUTCOME_UNKNOWN' })]);
    expect(await run(() => 1)).toEqual([
      expect.objectContaining({ ...common, type: 'idempotency.duplicate', outcome: 'replayed' }),
    ]);
    expect(await run(() => 1, { fingerprint: 'x' })).toEqual([
      expect.objectContaining({ ...common, outcome: 'mismatch', error: 'IDEMPOTENCY_MISMATCH' }),
    ]);
    await observed.server.client.flushall();
    const nested = await run(() => idempotency.run('raw-key', () => 1, { operation: 'orders.create' }));
    expect(nested).toEqual([
      expect.objectContaining({ outcome: 'in-flight', error: 'IDEMPOTENCY_IN_FLIGHT' }),
      expect.objectContaining({ outcome: 'released', error: 'IDEMPOTENCY_IN_FLIGHT' }),
    ]);
    const inTransaction = await during(() =>
      redis.transactions.run(['k'], () => idempotency.run('raw-key', () => 1)),
    );
    expect(inTransaction).toEqual([
      expect.objectContaining({
        type: 'idempotency.claim-failed',
        record: '',
        error: 'ILLEGAL_TRANSACTION_STATE',
      }),
      expect.objectContaining({ type: 'transactions.run', error: 'ILLEGAL_TRANSACTION_STATE' }),
    ]);
  });

  it('[OBS-2] report a lost lease when it is lost, and the run once', async () => {
    const { redis, during } = await observed.start();
    const lost = await during(() =>
      redis.idempotency.run(
        'raw-key',
        async ({ signal }) => {
          const [record] = await observed.server.client.keys('atomic:idempotency:*');
          await damageRecord(observed.server.client, record!, { token: 'another owner' });
          await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
        },
        { operation: 'orders.create', leaseMs: 1_000 },
      ),
    );
    expect(lost).toEqual([
      expect.objectContaining({
        type: 'lease.lost',
        pattern: 'idempotency',
        name: 'orders.create',
        error: 'LEASE_LOST',
      }),
      expect.objectContaining({ type: 'idempotency.run', outcome: 'lease-lost' }),
    ]);
    const tooLong = await during(() =>
      redis.idempotency.run(
        'other',
        ({ signal }) => new Promise((resolve) => signal.addEventListener('abort', () => resolve(1))),
        { maxRunMs: 100 },
      ),
    );
    expect(tooLong).toMatchObject([
      { type: 'lease.lost', error: 'RUN_TIMEOUT' },
      { type: 'idempotency.run' },
    ]);
  });

  it('[OBS-2] report each delivery to a consumer by one event, however it ends', async () => {
    const { redis, events } = await observed.start();
    const mails = redis.queues.get<string>('mails', { maxDeliveries: 2 });
    const hanging = gate();
    const consumer = mails.consume(
      async (job) => {
        if (job.payload === 'poison') throw new NotEnough('raw');
        if (job.payload === 'by hand') await job.ack();
        if (job.payload === 'lost') {
          for (const key of await observed.server.client.keys('*lease*'))
            await observed.server.client.del(key);
        }
        if (job.payload === 'hanging') {
          hanging.resolve();
          await new Promise(() => undefined);
        }
      },
      { concurrency: 2 },
    );
    const processed = () =>
      events.flatMap((event) =>
        event.type === 'queues.process' ? [`${event.ended} ${event.deliveries} ${event.error ?? ''}`] : [],
      );
    await mails.push('fine');
    await waitFor('it', () => processed().length === 1);
    await mails.push('by hand');
    await waitFor('it', () => processed().length === 2);
    await mails.push('poison');
    await waitFor('both deliveries', () => processed().length === 4);
    await mails.push('lost');
    await waitFor('it', () => processed().length === 5);
    await mails.push('hanging');
    await hanging.promise;
    await consumer.stop({ timeoutMs: 10 });
    await waitFor('it', () => processed().length === 6);
    expect(processed()).toEqual([
      'acknowledged 1 ',
      'acknowledged 1 ',
      'retried 1 NotEnough',
      'dead 2 NotEnough',
      'lease-lost 1 ',
      'released 1 ',
    ]);
    expect(events.filter(({ type }) => type === 'queues.take')).toEqual([]);
    expect(events.filter(({ type }) => type === 'lease.lost')).toEqual([
      expect.objectContaining({ pattern: 'queues', name: 'mails', error: 'LEASE_LOST' }),
    ]);
  });

  it('[OBS-3] report once each operation in progress when the module closes', async () => {
    const { redis, module, events } = await observed.start({ shutdownTimeoutMs: 50 });
    const never = new Promise<void>(() => undefined);
    const calls = [
      redis.transactions.run(['k'], () => never),
      redis.shadowKeys.replace('k', (writer) => writer.hset({ a: '1' }).then(() => never)),
      redis.queues.get('none').take({ waitMs: 60_000 }),
      redis.lists.move('none', 'none', { waitMs: 60_000 }),
      ...Array.from({ length: 20 }, (_, i) => redis.counters.add(`n${i}`, 1)),
    ].map((call) => call.then(String, String));
    redis.queues.get('jobs').consume(() => never);
    await redis.queues.get('jobs').push(1);
    await waitFor('the job', async () => (await redis.queues.get('jobs').counts()).processing === 1);
    const before = events.filter(isTerminal).length;
    await module.close();
    await Promise.all(calls);
    const late = redis.counters.add('n', 1).catch(String);
    await late;
    await waitFor('the last', () =>
      events.some((event) => 'error' in event && event.type === 'counters.add'),
    );
    const told = typesOf(events.filter(isTerminal).slice(before));
    for (const type of [
      'transactions.run',
      'shadowKeys.replace',
      'queues.take',
      'lists.move',
      'queues.process',
    ])
      expect(told.filter((one) => one === type)).toEqual([type]);
    expect(typesOf(events).filter((type) => type === 'counters.add')).toHaveLength(21);
  });

  it('[OBS-1] report each call once, with the outcome its caller got, under faults of every kind', async () => {
    const { redis, events } = await observed.start({ timeoutMs: 400, transactions: { timeoutMs: 400 } });
    const calls = {
      'counters.add': () => redis.counters.add('n', 1),
      'values.getAndSet': () => redis.values.getAndSet('v', 'x'),
      'transactions.run': () =>
        redis.transactions.run(
          ['k'],
          async (tx) => void tx.write.set('k', `${await tx.read.get('k')}`.slice(-5)),
        ),
      'queues.push': () => redis.queues.get('q').push(1),
      'shadowKeys.replace': () => redis.shadowKeys.replace('s', { a: '1' }, { timeoutMs: 400 }),
      'transfers.transfer': () => redis.transfers.transfer({ from: 'n', to: 'm', amount: 1 }),
    } as const;
    const faults = {
      none: () => undefined,
      lose: () => void observed.proxy.loseReplies({ times: 2 }),
      cut: () => void observed.proxy.cutBeforeServer(),
      disconnect: () => observed.proxy.disconnectAll(),
      delay: () => void observed.proxy.delay({ replyMs: 600 }),
    } as const;
    const names = Object.keys(calls) as (keyof typeof calls)[];
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom(...names), { minLength: 1, maxLength: 6 }),
        fc.constantFrom(...(Object.keys(faults) as (keyof typeof faults)[])),
        async (chosen, fault) => {
          const from = events.length;
          faults[fault]();
          const told = await Promise.all(
            chosen.map((name) =>
              calls[name]().then(
                () => `${name} ok`,
                (error: { code: string; outcome: string }) => `${name} ${error.code} ${error.outcome}`,
              ),
            ),
          );
          observed.proxy.reset();
          await new Promise((resolve) => setImmediate(resolve));
          const ends = events
            .slice(from)
            .filter(isTerminal)
            .map(
              (event) =>
                `${event.type} ${event.error ? `${event.error} ${'outcome' in event && event.outcome}` : 'ok'}`,
            );
          expect(ends.toSorted()).toEqual(told.toSorted());
        },
      ),
      { numRuns: 40 },
    );
  });
});

describe('listeners', () => {
  const boot = useApp();
  const observed = useObserved();

  it('[OBS-3] change nothing, even if they throw, reject, subscribe twice, call services or alter events', async () => {
    const { redis, module, during } = await observed.start();
    const stream = module.get(AtomicRedisEvents);
    let heard = 0;
    const twice = (): void => void heard++;
    stream.subscribe(twice);
    const unsubscribe = stream.subscribe(twice);
    stream.subscribe(() => {
      throw new Error('from a listener');
    });
    stream.subscribe(() => Promise.reject(new Error('from a listener')));
    stream.subscribe((event) => {
      (event as { type: string }).type = 'altered';
    });
    const called: unknown[] = [];
    const stop = stream.subscribe((event) => {
      if (event.type !== 'values.getAndSet') return;
      stop();
      // Inside a transaction it would be refused.
      called.push(redis.counters.add('heard', 1).then(() => 'done', String));
    });
    const held = gate();
    const events = await during(async () => {
      const transaction = redis.transactions.run(['k'], async (tx) => {
        await redis.values.getAndSet('v', 'x', { propagation: 'outside' });
        await held.promise;
        tx.write.incr('k');
      });
      await waitFor('the listener', () => called.length === 1);
      expect(await Promise.all(called)).toEqual(['done']);
      held.resolve();
      await transaction;
    });
    // On a busy machine the body may run again; each of its attempts writes the value.
    expect(typesOf(events).filter((type) => type !== 'values.getAndSet')).toEqual([
      'counters.add',
      'transactions.run',
    ]);
    expect(typesOf(events)[0]).toBe('values.getAndSet');
    expect(heard).toBe(2 * events.length);
    const before = heard;
    unsubscribe();
    await during(() => redis.counters.add('n', 1));
    expect(heard).toBe(before + 1);
  });

  it('[OBS-3] of several registrations each get their own events', async () => {
    const { url } = observed.proxy;
    const module = await boot(
      { connection: url },
      { imports: [AtomicRedisModule.forRoot({ connection: url, namespace: 'atomic:', name: 'orders' })] },
    );
    const events: AtomicRedisEvent[] = [];
    const both = [undefined, 'orders'].map((name) =>
      module.get<AtomicRedis>(getAtomicRedisToken(name), { strict: false }),
    );
    for (const redis of both) redis.events.subscribe((event) => events.push(event));
    await both[0]!.counters.add('n', 1);
    await both[1]!.counters.add('n', 1);
    await waitFor('both', () => events.length === 2);
    expect(events.map(({ registration }) => registration)).toEqual(['default', 'orders']);
  });
});
