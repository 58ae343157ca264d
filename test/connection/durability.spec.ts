import type { TestingModule } from '@nestjs/testing';
import { Redis } from 'ioredis';
import {
  AtomicRedisEvents,
  AuditedHashService,
  CounterLimitError,
  CounterService,
  IdempotencyService,
  InvalidArgumentError,
  NotReplicatedError,
  RedisUnavailableError,
  ReservationService,
  IllegalTransactionStateError,
  TransactionService,
  ValueService,
  type AtomicRedisEvent,
  type DurabilityOptions,
} from 'nestjs-atomic-redis';
import {
  startFaultProxy,
  startRedisServer,
  type FaultProxy,
  type RedisServer,
} from 'nestjs-atomic-redis/testing';
import { RedisConnection } from '../../lib/connection/redis-connection.js';
import { useApp } from '../support/app.js';
import { waitFor } from '../support/wait-for.js';
import { stateOf } from '../support/idempotency-record.js';

const binary = process.env.TEST_REDIS_BINARY;

describe('durability', () => {
  const boot = useApp();
  let master: RedisServer;
  let replicas: RedisServer[];
  let client: Redis;
  let proxy: FaultProxy;
  let module: TestingModule;
  let transactions: TransactionService;
  let idempotency: IdempotencyService;
  let values: ValueService;
  let events: AtomicRedisEvent[];

  beforeAll(async () => {
    master = await startRedisServer({ binary, args: ['--repl-diskless-sync-delay', '0'] });
    client = new Redis(master.url);
    const of = ['--replicaof', master.host, String(master.port)];
    replicas = await Promise.all([1, 2].map(() => startRedisServer({ binary, args: of })));
    await waitFor('the replicas', async () => (await client.wait(2, 100)) === 2);
  });

  afterAll(async () => {
    client.disconnect();
    await Promise.all([master, ...replicas].map((server) => server.stop()));
  });

  beforeEach(async () => {
    await client.flushall();
    proxy = await startFaultProxy({ target: master });
    module = await boot({ connection: proxy.url, shutdownTimeoutMs: 500 });
    transactions = module.get(TransactionService);
    idempotency = module.get(IdempotencyService);
    values = module.get(ValueService);
    events = [];
    module.get(AtomicRedisEvents).subscribe((event) => 'replicated' in event && events.push(event));
  });

  afterEach(async () => {
    for (const replica of replicas) replica.resume();
    await proxy.stop();
  });

  const both: DurabilityOptions = { replicas: 2, timeoutMs: 5_000 };
  const impatient: DurabilityOptions = { replicas: 2, timeoutMs: 1_500 };
  const failureOf = (step: Promise<unknown>): Promise<unknown> => step.catch((error: unknown) => error);
  const set = (durability: DurabilityOptions): Promise<string> =>
    transactions.run(['k'], (tx) => (tx.write.set('k', 'v'), 'done'), { durability });

  /** Returns the values that would survive the loss of the master now. */
  const onReplicas = async (key: string): Promise<(string | null)[]> =>
    await Promise.all(
      replicas.map(async ({ url }) => {
        const replica = new Redis(url);
        try {
          return await replica.get(key);
        } finally {
          replica.disconnect();
        }
      }),
    );

  it('[DUR-1] a transaction, a script and a run are on the replicas when their calls return', async () => {
    for (let i = 0; i < 20; i++) {
      expect(await set(both)).toBe('done');
      expect(await onReplicas('k')).toEqual(['v', 'v']);
      await values.compareAndSet('n', i === 0 ? null : String(i - 1), String(i), { durability: both });
      expect(await onReplicas('n')).toEqual([String(i), String(i)]);
      await client.del('k');
    }
    await idempotency.run('run', () => 'result', { durability: both });
    const [record] = await client.keys('atomic:idempotency:*');
    for (const { url } of replicas) {
      const replica = new Redis(url);
      expect(await stateOf(replica, record!)).toBe('done');
      replica.disconnect();
    }
  });

  it('[DUR-2] a write that the replicas did not acknowledge in time is reported as applied, with its result and their number', async () => {
    replicas[1]!.pause();
    const began = performance.now();
    const ofTransaction = await failureOf(set(impatient));
    expect(performance.now() - began).toBeGreaterThan(1_400);
    expect(ofTransaction).toBeInstanceOf(NotReplicatedError);
    expect(ofTransaction).toMatchObject({
      outcome: 'applied',
      requested: 2,
      acknowledged: 1,
      result: 'done',
    });
    expect(await client.get('k')).toBe('v');
    const ofScript = await failureOf(values.compareAndSet('n', null, '1', { durability: impatient }));
    expect(ofScript).toMatchObject({ code: 'NOT_REPLICATED', acknowledged: 1, result: { swapped: true } });
    expect(await set({ replicas: 1 })).toBe('done');
    replicas[1]!.resume();
    expect(await set(both)).toBe('done');
  });

  it('[DUR-2] a claim that replicas do not have is given back and its method does not run; a result that they do not have still reaches the caller', async () => {
    replicas[0]!.pause();
    replicas[1]!.pause();
    const ran = jest.fn(() => 'ran');
    const refused = await failureOf(idempotency.run('k', ran, { durability: impatient }));
    expect(refused).toBeInstanceOf(RedisUnavailableError);
    expect(ran).not.toHaveBeenCalled();
    await waitFor('the key to be free', async () => (await idempotency.inspect('k')) === null);
    for (const replica of replicas) replica.resume();

    await idempotency.run('done', () => 'kept');
    replicas[0]!.pause();
    // An existing record needs no replica, with the default times too.
    expect(await idempotency.run('done', ran, { durability: { replicas: 2 } })).toBe('kept');
    replicas[0]!.resume();

    const pausing = async () => {
      for (const replica of replicas) replica.pause();
      return 'result';
    };
    expect(await idempotency.run('k', pausing, { durability: impatient })).toBe('result');
    expect(await idempotency.run('k', ran)).toBe('result');
    await waitFor('the events', () => events.length === 2);
    expect(events[1]).toMatchObject({ outcome: 'completed', replicated: false });
  });

  it('[DUR-2] counters and holds report missing replicas with their own results, and calls that changed nothing answer as usual', async () => {
    const counters = module.get(CounterService);
    const reservations = module.get(ReservationService);
    await counters.add('stock', 10, { durability: both });
    expect(await onReplicas('stock')).toEqual(['10', '10']);
    replicas[1]!.pause();
    const durability = impatient;
    const [asked, unasked] = await Promise.all([
      failureOf(counters.add('stock', -1, { durability })),
      counters.add('stock', -1),
    ]);
    expect(asked).toMatchObject({ code: 'NOT_REPLICATED', result: { applied: -1 } });
    // Each goes by itself, in either order.
    const { result } = asked as { result: { value: number } };
    expect(new Set([result.value, unasked.value])).toEqual(new Set([8, 9]));
    const limited = await counters.add('stock', -100, { min: 0, durability });
    expect(limited).toMatchObject({ value: 8, limited: true });
    const adds = [
      { key: 'stock', amount: -1 },
      { key: 'other', amount: 1 },
    ];
    expect(await failureOf(counters.addAll(adds, { durability }))).toMatchObject({
      result: { applied: true, counters: [{ value: 7 }, { value: 1 }] },
    });
    expect(await failureOf(reservations.hold('stock', 2, { ttlMs: 60_000, durability }))).toMatchObject({
      result: { quantity: 2, available: 5 },
    });
    await expect(reservations.hold('stock', 20, { ttlMs: 60_000, durability })).rejects.toThrow(
      CounterLimitError,
    );

    const work = jest.fn();
    await expect(counters.run('stock', -1, work, { durability })).rejects.toThrow(RedisUnavailableError);
    expect(work).not.toHaveBeenCalled();
    expect(await counters.get('stock')).toBe(5);
  });

  it('[DUR-2] counters report missing replicas even if the wait for them is longer than the call’s time-out', async () => {
    const counters = module.get(CounterService);
    replicas[1]!.pause();
    const durability = { replicas: 2, timeoutMs: 4_000 };
    const counts = [3_000, 2_900].map((timeoutMs) =>
      failureOf(counters.add('c', 1, { timeoutMs, durability })),
    );
    expect(await Promise.all(counts)).toMatchObject([
      { code: 'NOT_REPLICATED', acknowledged: 1, result: { value: 1, applied: 1 } },
      { code: 'NOT_REPLICATED', acknowledged: 1, result: { value: 2, applied: 1 } },
    ]);
  });

  it('[DUR-2] values and audited hashes answer as usual when they changed nothing', async () => {
    const hashes = module.get(AuditedHashService);
    await client.set('k', 'a');
    await client.hset('h', 'f', '1');
    replicas[1]!.pause();
    const durability: DurabilityOptions = { replicas: 2, timeoutMs: 50 };
    const log = { log: 'h:log', durability };
    expect(await values.compareAndSet('k', 'x', 'y', { durability })).toEqual({
      swapped: false,
      current: 'a',
    });
    expect(await values.compareAndDelete('none', 'x', { durability })).toEqual({
      deleted: false,
      current: null,
    });
    expect(await values.compareAndSetField('h', 'f', null, 'y', { durability })).toMatchObject({
      current: '1',
    });
    expect(await values.getAndDelete('none', { durability })).toBeNull();
    expect(await values.getAndExpire('none', { ttlMs: 1_000, durability })).toBeNull();
    expect(await hashes.delete('h', 'none', log)).toBeNull();
    expect(await hashes.update('h', { g: null, i: null }, log)).toEqual({ g: null, i: null });

    const notReplicated = (result: unknown) => expect.objectContaining({ code: 'NOT_REPLICATED', result });
    expect(await failureOf(values.compareAndSet('k', 'a', 'b', { durability }))).toEqual(
      notReplicated({ swapped: true, current: 'b' }),
    );
    expect(await failureOf(values.getAndSet('new', 'c', { durability }))).toEqual(notReplicated(null));
    expect(await failureOf(values.getAndExpire('k', { persist: true, durability }))).toEqual(
      notReplicated('b'),
    );
    expect(await failureOf(values.getAndDelete('k', { durability }))).toEqual(notReplicated('b'));
    expect(await failureOf(hashes.set('h', 'f', '1', log))).toEqual(notReplicated('1'));
    expect(await failureOf(hashes.update('h', { g: null, f: null }, log))).toEqual(
      notReplicated({ g: null, f: '1' }),
    );
    expect(await failureOf(hashes.set('h', 'f', '2', log))).toEqual(notReplicated(null));
  });

  it('[DUR-1] a waiting call does not delay others, and calls that wait together share one WAIT', async () => {
    replicas[1]!.pause();
    const waiting = failureOf(
      values.compareAndSet('slow', null, '1', { durability: { replicas: 2, timeoutMs: 8_000 } }),
    );
    const began = performance.now();
    await values.compareAndSet('fast', null, '1');
    await transactions.run(['k'], (tx) => void tx.write.set('k', 'v'));
    const counters = module.get(CounterService);
    const counted = counters.add('c', 1, { durability: { replicas: 2, timeoutMs: 8_000 } });
    await Promise.all([counters.add('c', 1), counters.add('c', 1)]);
    await counters.add('c', 1);
    expect(performance.now() - began).toBeLessThan(5_000);
    replicas[1]!.resume();
    await Promise.all([waiting, counted]);
    expect(await counters.get('c')).toBe(4);
    await client.config('RESETSTAT');
    await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        values.compareAndSet(`key ${i}`, null, '1', { durability: both }),
      ),
    );
    const waits = Number(/cmdstat_wait:calls=(\d+)/.exec(await client.info('commandstats'))?.[1]);
    expect(waits).toBeLessThan(20);
  });

  it('[DUR-1] durable calls succeed when replies are lost and connections are cut', async () => {
    for (const name of ['EXEC', 'EVALSHA', 'WAIT']) {
      await client.del('k', 'n');
      proxy.loseReplies({ match: (command) => command.name === name });
      expect(await failureOf(set(both))).toBe('done');
      proxy.reset();
      proxy.loseReplies({ match: (command) => command.name === name });
      const answer = await failureOf(values.compareAndSet('n', null, '1', { durability: both }));
      expect(answer).toMatchObject({ swapped: true });
      proxy.reset();
      expect(await onReplicas('k')).toEqual(['v', 'v']);
    }
  });

  it('[DUR-1] a durable call retries until its deadline while connections are refused, however short its wait for replicas', async () => {
    const durability: DurabilityOptions = { replicas: 2, timeoutMs: 1_500 };
    await values.compareAndSet('a', null, '1', { durability });
    proxy.loseReplies({ match: ({ name }) => name === 'EVALSHA' });
    proxy.refuseConnections(true);
    setTimeout(() => proxy.refuseConnections(false), 2_000);
    expect(await failureOf(values.compareAndSet('b', null, '1', { durability, timeoutMs: 20_000 }))).toEqual({
      swapped: true,
      current: '1',
    });
    proxy.disconnectAll();
    await waitFor('the connection is back', () => module.get(RedisConnection).isReady);
    proxy.pause();
    setTimeout(() => proxy.resume(), 2_000);
    const patient = values.compareAndSet('c', null, '1', {
      timeoutMs: 20_000,
      durability: { replicas: 2, timeoutMs: 1_500 },
    });
    expect(await failureOf(patient)).toMatchObject({ swapped: true });
  });

  it('[DUR-2] a call with a short wait returns on time beside one with a long wait', async () => {
    replicas[1]!.pause();
    const swap = (key: string, timeoutMs: number) =>
      failureOf(
        values.compareAndSet(key, null, '1', { timeoutMs: 4_000, durability: { replicas: 2, timeoutMs } }),
      );
    let longIsOver = false;
    const long = swap('long', 7_000).finally(() => (longIsOver = true));
    const shorts = [swap('short', 1_500)];
    await waitFor('the long one to be done', async () => (await client.get('long')) === '1');
    shorts.push(swap('later', 1_500));
    const told = { code: 'NOT_REPLICATED', acknowledged: 1, result: { swapped: true } };
    expect(await Promise.all(shorts)).toMatchObject([told, told]);
    expect(longIsOver).toBe(false);
    expect(await long).toMatchObject(told);
  });

  it('[DUR-2] a WAIT whose reply is lost is no unknown outcome, even if Redis stays unreachable', async () => {
    await values.compareAndSet('a', null, '1', { durability: both });
    const lost = proxy.loseReplies({ match: ({ name }) => name === 'WAIT' });
    void lost.triggered.then(() => proxy.refuseConnections(true));
    const swap = values.compareAndSet('b', null, '1', { durability: both, timeoutMs: 1_500 });
    expect(await failureOf(swap)).toMatchObject({
      code: 'NOT_REPLICATED',
      acknowledged: -1,
      result: { swapped: true },
    });
  });

  it('closing the module leaves no connection that was still being opened', async () => {
    await values.compareAndSet('a', null, '0');
    proxy.pause();
    const swap = failureOf(values.compareAndSet('a', '0', '1', { durability: both, timeoutMs: 20_000 }));
    await module.close();
    proxy.resume();
    expect(await swap).toMatchObject({ code: 'MODULE_CLOSED' });
    await waitFor('no connection', async () => !String(await client.client('LIST')).includes(':durable'));
  });

  it('[DUR-3] with fsync, a call waits for the disk if the server can report it, and fails if it cannot', async () => {
    const canWait = (await client.call('COMMAND', 'INFO', 'waitaof')) as unknown[];
    const onDisk = set({ replicas: 0, fsync: true, timeoutMs: 300 });
    const failure = await failureOf(onDisk);
    // Without an append-only file there is nothing to wait for.
    expect(failure).toMatchObject({ code: 'NOT_REPLICATED', acknowledged: -1 });
    if (!canWait[0]) return;
    for (const server of [master, ...replicas]) {
      const each = new Redis(server.url);
      await each.config('SET', 'appendonly', 'yes');
      each.disconnect();
    }
    try {
      expect(await set({ replicas: 2, fsync: true, timeoutMs: 10_000 })).toBe('done');
    } finally {
      for (const server of [master, ...replicas]) {
        const each = new Redis(server.url);
        await each.config('SET', 'appendonly', 'no');
        each.disconnect();
      }
    }
  });

  it.each([
    ['no number', {}],
    ['none', { replicas: 0 }],
    ['a fraction', { replicas: 1.5 }],
    ['no time', { replicas: 1, timeoutMs: 0 }],
  ])('[ARG-1] a number of replicas of %s is refused before any command', async (_, durability) => {
    await expect(set(durability as DurabilityOptions)).rejects.toThrow(InvalidArgumentError);
  });

  it('[DUR-2] only the outermost transaction may have durability', async () => {
    const nested = transactions.run(['k'], () => set(both));
    await expect(nested).rejects.toThrow(IllegalTransactionStateError);
  });
});
