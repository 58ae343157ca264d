import type { TestingModule } from '@nestjs/testing';
import {
  CounterService,
  NotAnIntegerError,
  OutcomeUnknownError,
  RedisUnavailableError,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { Deadline } from '../../lib/runtime/deadline.js';
import { CounterBatches } from '../../lib/counters/counter-batch.js';
import { Producer } from '../../lib/pipelines/producer.js';
import { ScriptRunner } from '../../lib/scripting/script-runner.js';
import { WorkInFlight } from '../../lib/runtime/work-in-flight.js';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { RedisConnection } from '../../lib/connection/redis-connection.js';
import { connectionTo } from '../support/library-connection.js';
import { useRedis } from '../support/redis.js';

const times = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => make(index));

const scripts = { match: ({ name }: { name: string }): boolean => name === 'EVALSHA' };

describe('a counter whose connection fails', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let apps: TestingModule[];
  /** Reaches Redis through the proxy. */
  let counters: CounterService;
  /** Another instance, straight to Redis: what another process is. */
  let other: CounterService;

  const start = (connection: string): Promise<TestingModule> => boot({ connection });

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    apps = await Promise.all([start(proxy.url), start(redis.server.url)]);
    [counters, other] = apps.map((app) => app.get(CounterService)) as [CounterService, CounterService];
  });

  afterEach(async () => {
    await Promise.all(apps.map((app) => app.close()));
    await proxy.stop();
  });

  describe('a lost reply', () => {
    it('[CT-2] counts once, and the caller gets the answer of that one run', async () => {
      const fault = proxy.loseReplies(scripts);
      const adding = counters.add('n', 3);
      expect(await adding).toEqual({ value: 3, applied: 3, limited: false });
      expect(fault.count).toBe(1);
      expect(await redis.client.get('n')).toBe('3');
    });

    it.each([['OOM'], ['NOPERM']])(
      '[CT-2] is found out also when a copy is refused by %s, and holds up no other addition',
      async (code) => {
        proxy.loseReplies(scripts);
        const refused = proxy.answer(`-${code} refused\r\n`, scripts);
        const adding = counters.add('n', 3, { timeoutMs: 60_000 });
        await until(() => Promise.resolve(refused.count === 1));
        expect(await counters.add('m', 1)).toMatchObject({ value: 1 });
        expect(await adding).toMatchObject({ value: 3, applied: 3 });
        expect(await redis.client.get('n')).toBe('3');
      },
    );

    it('[CT-2] returns the first run’s answers even if the counter has changed since', async () => {
      const fault = proxy.loseReplies(scripts);
      proxy.refuseConnections(true);
      const adding = Promise.all([counters.add('n', 3, { max: 4 }), counters.add('n', 3, { max: 4 })]);
      await until(async () => (await redis.client.get('n')) === '3');
      await other.add('n', 100);
      proxy.refuseConnections(false);
      expect(await adding).toEqual([
        { value: 3, applied: 3, limited: false },
        { value: 3, applied: 0, limited: true },
      ]);
      expect(fault.count).toBe(1);
      expect(await redis.client.get('n')).toBe('103');
    });

    it('[CT-2] resets and undoes once', async () => {
      const { undo } = await counters.addUndoable('n', 5);
      await other.add('n', 1);
      proxy.loseReplies(scripts);
      expect(await undo()).toBe(true);
      expect(await redis.client.get('n')).toBe('1');
      proxy.loseReplies(scripts);
      expect(await counters.reset('n')).toBe(1);
    });

    it('[CT-2] refuses once too: a copy does not add to a key that has become a counter since', async () => {
      await redis.client.set('n', 'garbage');
      proxy.loseReplies(scripts);
      proxy.refuseConnections(true);
      const adding = Promise.allSettled([counters.add('n', 1)]);
      await until(async () => (await redis.client.keys('atomic:producer:*')).length === 1);
      await redis.client.set('n', 0);
      proxy.refuseConnections(false);
      expect(await adding).toMatchObject([{ reason: expect.any(NotAnIntegerError) }]);
      expect(await redis.client.get('n')).toBe('0');
    });

    it('[CT-2] leaves the outcome unknown, not denied, when the module closes before the reply', async () => {
      proxy.loseReplies(scripts);
      proxy.refuseConnections(true);
      const adding = Promise.allSettled([counters.add('n', 1)]);
      const connection = apps[0]!.get(RedisConnection);
      await until(async () => (await redis.client.get('n')) === '1' && !connection.isReady);
      await connection.close();
      expect(await adding).toMatchObject([{ reason: expect.any(OutcomeUnknownError) }]);
    });

    it('[CT-2] counts once when the server never saw the call', async () => {
      proxy.cutBeforeServer(scripts);
      expect(await counters.add('n', 3)).toEqual({ value: 3, applied: 3, limited: false });
      expect(await redis.client.get('n')).toBe('3');
    });
  });

  describe('without a marker', () => {
    const marker = false;

    it('[CT-13] keeps nothing in Redis but the counter, and still shares script calls', async () => {
      await counters.get('warm');
      const counts = await countCommands(redis.client, () =>
        Promise.all(times(50, () => counters.add('n', 1, { deduplicate: marker }))),
      );
      expect(counts).toMatchObject({ evalsha: 1 });
      expect(await redis.client.keys('*')).toEqual(['n']);
      const { undo } = await counters.addUndoable('n', 5, { deduplicate: marker, ttlMs: 50_000 });
      expect(await undo()).toBe(true);
      await Promise.all([counters.add('n', 1, { deduplicate: marker }), counters.add('n', 1)]);
      expect(await counters.reset('n', { deduplicate: marker })).toBe(52);
    });

    it.each<[string, 'loseReplies' | 'cutBeforeServer', number]>([
      ['applied', 'loseReplies', 1],
      ['not applied', 'cutBeforeServer', 0],
    ])(
      '[CT-13] reports a lost reply as unknown at once, and sends nothing again (%s)',
      async (_, fault, value) => {
        await counters.get('warm');
        const calls = await countCommands(redis.client, async () => {
          proxy[fault](scripts);
          await expect(counters.add('n', 1, { deduplicate: marker })).rejects.toThrow(OutcomeUnknownError);
        });
        expect(calls.evalsha ?? 0).toBe(value);
        expect(Number(await redis.client.get('n'))).toBe(value);
        expect(await counters.add('n', 1, { deduplicate: marker })).toMatchObject({ value: value + 1 });
      },
    );

    it('[CT-13] reports a lost reply for several counters as unknown too', async () => {
      proxy.loseReplies(scripts);
      const adding = counters.addAll([{ key: 'n', amount: 1 }], { deduplicate: marker });
      await expect(adding).rejects.toThrow(OutcomeUnknownError);
      expect(await redis.client.keys('*')).toEqual(['n']);
    });
  });

  describe('an old batch that arrives late', () => {
    it('[CT-3] changes nothing after the answer to its own copy', async () => {
      const late = proxy.deliverLate(200, scripts);
      expect(await counters.add('n', 1)).toMatchObject({ value: 1 });
      await late.delivered;
      expect(await redis.client.get('n')).toBe('1');
    });

    it('[CT-3] changes nothing after a newer batch', async () => {
      const late = proxy.deliverLate(300, scripts);
      await counters.add('n', 1);
      expect(await counters.add('n', 10)).toMatchObject({ value: 11 });
      await late.delivered;
      expect(await redis.client.get('n')).toBe('11');
    });

    it('[CT-3] changes nothing after its time-out, and the caller gets an unknown outcome', async () => {
      const late = proxy.deliverLate(500, scripts);
      proxy.refuseConnections(true);
      const adding = counters.add('n', 1, { timeoutMs: 200 });
      await expect(adding).rejects.toThrow(OutcomeUnknownError);
      await late.delivered;
      expect(await redis.client.exists('n')).toBe(0);
    });

    it('[CT-3] changes nothing after its time-out and a newer batch of the same instance', async () => {
      const late = proxy.deliverLate(800, scripts);
      proxy.refuseConnections(true);
      await expect(counters.add('n', 1, { timeoutMs: 300 })).rejects.toThrow(OutcomeUnknownError);
      proxy.refuseConnections(false);
      expect(await counters.add('n', 10)).toMatchObject({ value: 10 });
      await late.delivered;
      expect(await redis.client.get('n')).toBe('10');
    });

    it('[CT-3] is recognised for longer than it can be under way, whatever the time to live of the counter', async () => {
      await counters.add('n', 1, { ttlMs: 1, timeoutMs: 20_000 });
      const [state] = await redis.client.keys('atomic:producer:*');
      expect(await redis.client.pttl(state!)).toBeGreaterThan(70_000);
    });

    it('[CT-3] keeps its state until the longest time-out in the lane has passed', async () => {
      await counters.add('n', 1, { timeoutMs: 600_000 });
      await counters.add('n', 1, { timeoutMs: 5_000 });
      const [state] = await redis.client.keys('atomic:producer:*');
      expect(await redis.client.pttl(state!)).toBeGreaterThan(600_000);
    });

    it('[CT-3] respects the time-out of each operation, even within a shared batch', async () => {
      proxy.cutBeforeServer(scripts);
      proxy.refuseConnections(true);
      const [hasty, patient] = [
        counters.add('n', 1, { timeoutMs: 200 }),
        counters.add('n', 10, { timeoutMs: 10_000 }),
      ];
      await expect(hasty).rejects.toThrow(OutcomeUnknownError);
      proxy.refuseConnections(false);
      expect(await patient).toEqual({ value: 10, applied: 10, limited: false });
      expect(await redis.client.get('n')).toBe('10');
    });
  });

  it('[CT-4] never gives one instance the answers of another', async () => {
    proxy.loseReplies({ ...scripts, times: 5 });
    const adds = times(200, (i) => ({ service: i % 2 ? counters : other, amount: i % 2 ? 1 : 1_000 }));
    const results = await Promise.all(
      adds.map(async ({ service, amount }, i) => {
        // Over several ticks, for many batches.
        for (let tick = 0; tick < i / 10; tick++) await new Promise(setImmediate);
        return { amount, ...(await service.add('n', amount)) };
      }),
    );
    expect(await redis.client.get('n')).toBe('100100');
    let before = 0;
    for (const { amount, applied, value } of results.toSorted((a, b) => a.value - b.value)) {
      expect(applied).toBe(amount);
      expect(value).toBe(before + amount);
      before = value;
    }
  });

  describe('without Redis', () => {
    it('[CT-2] reports that nothing was added when nothing was sent, and adds nothing later', async () => {
      proxy.refuseConnections(true);
      proxy.disconnectAll();
      await until(async () => !apps[0]!.get(RedisConnection).isReady);
      const started = performance.now();
      const adds = times(10, (i) => counters.add('n', 1, { timeoutMs: 100 + 10 * i }));
      for (const adding of await Promise.allSettled(adds)) {
        expect(adding).toMatchObject({ reason: expect.any(RedisUnavailableError) });
        expect(adding).toMatchObject({ reason: { outcome: 'not-applied', retryable: true } });
      }
      // The last of them has 190 ms; by default it would be five seconds.
      expect(performance.now() - started).toBeLessThan(4_000);
      await expect(counters.get('n', { timeoutMs: 50 })).rejects.toThrow(RedisUnavailableError);
      proxy.refuseConnections(false);
      expect(await counters.add('n', 5)).toMatchObject({ value: 5 });
    });

    it('[CT-2] reports that nothing was added when a new connection never learnt the server’s time', async () => {
      proxy.delay({ match: ({ name }) => name === 'TIME', replyMs: 60_000, times: Infinity });
      const connection = apps[0]!.get(RedisConnection);
      proxy.disconnectAll();
      await until(async () => !connection.isReady);
      await until(async () => connection.isReady);
      const adds = [100, 200].map((timeoutMs) => counters.add('n', 1, { timeoutMs }));
      for (const adding of await Promise.allSettled(adds))
        expect(adding).toMatchObject({ reason: expect.any(RedisUnavailableError) });
      proxy.reset();
      expect(await counters.add('n', 5)).toMatchObject({ value: 5 });
    });

    it('[CT-2] fails reads that hang at their time-out', async () => {
      proxy.blackHole();
      await expect(counters.get('n', { timeoutMs: 100 })).rejects.toThrow(RedisUnavailableError);
      proxy.reset();
      proxy.disconnectAll();
    });
  });

  it('[CT-3] distinguishes an operation that was never sent from one that may have been applied', async () => {
    await counters.add('n', 0);
    proxy.blackHole();
    const inFlight = counters.add('n', 1, { timeoutMs: 300 });
    await new Promise(setImmediate);
    const queued = counters.add('n', 10, { timeoutMs: 200 });
    await expect(queued).rejects.toThrow(RedisUnavailableError);
    await expect(inFlight).rejects.toThrow(OutcomeUnknownError);
    proxy.reset();
    proxy.disconnectAll();
    expect(await counters.add('n', 100)).toMatchObject({ value: 100 });
  });

  it('[CT-10] sends at most one batch per lane at a time, and is idle once all are answered', async () => {
    const connection = connectionTo(redis.server.url);
    const batches = new CounterBatches({ maxBatchSize: 4, undoWindowMs: 1_000 });
    const inFlight = new WorkInFlight();
    const how = { deduplicate: true, durability: undefined };
    const producer = new Producer(connection, new ScriptRunner(connection), inFlight, batches, how);
    const add = (key: string): Promise<string> =>
      new Promise((resolve, reject) => {
        const change = { kind: 'add', amount: 1, min: '', max: '', ttlMs: '', detail: 'n' } as const;
        const toResult = (answer: string, place: number): string => `${answer} ${place}`;
        const caller = { toResult, isChange: () => true, resolve, reject };
        producer.perform({
          key,
          change,
          caller,
          deadline: Deadline.in(2_000),
          state: 'queued',
          isAlone: false,
        });
      });
    try {
      await redis.client.set('n', 5);
      await add('n');
      const counts = await countCommands(redis.client, async () => {
        const adding = Promise.all(times(9, () => add('n')));
        expect(inFlight.inFlight).toBe(1);
        expect(await adding).toEqual(['6 0', '6 1', '6 2', '6 3', '10 0', '10 1', '10 2', '10 3', '14 0']);
      });
      expect(counts).toMatchObject({ evalsha: 3 });
      await until(async () => inFlight.inFlight === 0);
    } finally {
      await connection.close();
    }
  });
});

/** Waits for what another process has to do first. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise(setImmediate);
}
