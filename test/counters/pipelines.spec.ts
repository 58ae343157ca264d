import type { TestingModule } from '@nestjs/testing';
import {
  CounterService,
  NotAnIntegerError,
  OutcomeUnknownError,
  RedisReplyError,
  ReservationService,
  type CounterResult,
  type Undoable,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

const times = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => make(index));

const scripts = { match: ({ name }: { name: string }): boolean => name === 'EVALSHA' };

const USER = 'clerk';

/** Keys of two counters whose operations share calls, and of one that travels alone. */
const A = 'n1';
const B = 'n3';
const ELSEWHERE = 'n2';

describe('operations on several counters that share calls', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: TestingModule;
  let counters: CounterService;

  const start = (connection: string): Promise<TestingModule> => boot({ connection });

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    app = await start(proxy.url);
    counters = app.get(CounterService);
    await counters.get('warm');
  });

  afterEach(async () => {
    await app.close();
    await proxy.stop();
  });

  it('[CT-14] take a few script calls for any number of counters, and keep one key per call', async () => {
    const counts = await countCommands(redis.client, () =>
      Promise.all(times(200, (i) => counters.add(`n${i}`, 1))),
    );
    expect(counts).toMatchObject({ evalsha: 2 });
    expect(await redis.client.keys('atomic:*')).toHaveLength(2);
    expect(await Promise.all(times(200, (i) => counters.get(`n${i}`)))).toEqual(times(200, () => 1));
  });

  it('[CT-14] share a call only with counters of the same slot', async () => {
    const callsOf = async (...keys: string[]): Promise<number> => {
      const made = await countCommands(redis.client, () =>
        Promise.all(keys.map((key) => counters.add(key, 1))),
      );
      return made.evalsha!;
    };
    expect(await callsOf(A, B)).toBe(1);
    expect(await callsOf(A, ELSEWHERE)).toBe(2);
  });

  it('[CT-14] each get their own answer, and run in the order of their calls per counter', async () => {
    await redis.client.set(A, 10);
    const results = await Promise.all([
      counters.add(A, 1),
      counters.add(B, 5, { max: 7 }),
      counters.add(A, 1),
      counters.add(B, 5, { max: 7 }),
      counters.reset(A),
      counters.add(B, 5, { max: 7, onLimit: 'clamp' }),
      counters.add(A, 1),
    ]);
    expect(results).toEqual([
      { value: 11, applied: 1, limited: false },
      { value: 5, applied: 5, limited: false },
      { value: 12, applied: 1, limited: false },
      { value: 5, applied: 0, limited: true },
      12,
      { value: 7, applied: 2, limited: true },
      { value: 1, applied: 1, limited: false },
    ]);
  });

  it.each([
    ['set', 'abc'],
    ['rpush', 'abc'],
  ] as const)(
    '[CT-14] refuse a key that is no counter (%s), and run on the others',
    async (command, value) => {
      await redis.client.call(command, A, value);
      const [refused, done] = await Promise.allSettled([counters.add(A, 1), counters.add(B, 1)]);
      expect(refused).toMatchObject({ reason: expect.any(NotAnIntegerError) });
      expect(refused).toMatchObject({ reason: { key: A } });
      expect(done).toMatchObject({ value: { value: 1 } });
    },
  );

  it('[CT-14] run where the user has rights, even if one counter of the batch is forbidden', async () => {
    await redis.client.call(
      'ACL',
      'SETUSER',
      USER,
      'on',
      '>secret',
      '+@all',
      '~atomic:*',
      `~${A}`,
      `~${ELSEWHERE}`,
    );
    const limited = await start(redis.server.url.replace('//', `//${USER}:secret@`));
    try {
      const calls = [A, B, A, ELSEWHERE].map((key) => limited.get(CounterService).add(key, 1));
      expect(await Promise.allSettled(calls)).toMatchObject([
        { value: { value: 1 } },
        { reason: expect.any(RedisReplyError) },
        { value: { value: 2 } },
        { value: { value: 1 } },
      ]);
    } finally {
      await limited.close();
      await redis.client.call('ACL', 'DELUSER', USER);
    }
  });

  it('[CT-14] wait in order behind many expired holds of their counter, without delaying other counters', async () => {
    const reservations = app.get(ReservationService);
    await redis.client.set(A, 10_000);
    await redis.client.set(B, 1);
    const held = times(2_500, (i) => ['1', `1:${String(i).padStart(22, '0')}`]).flat();
    await redis.client.zadd(`atomic:holds:{${A}}:${A}`, ...held);
    const order: string[] = [];
    const note = <T>(name: string, call: Promise<T>): Promise<T> => call.finally(() => order.push(name));
    const results = await Promise.all([
      note('a1', counters.add(A, 1)),
      note('b', counters.add(B, 1)),
      note('a2', counters.add(A, 2)),
    ]);
    expect(results.map(({ value }) => value)).toEqual([12_501, 2, 12_503]);
    expect(order).toEqual(['b', 'a1', 'a2']);
    expect(await reservations.list(A)).toEqual([]);
  });

  it('[CT-14] count once each when the reply is lost, even if the counters changed since', async () => {
    const fault = proxy.loseReplies(scripts);
    proxy.refuseConnections(true);
    const adding = Promise.all([counters.add(A, 1), counters.add(B, 10), counters.add(A, 1)]);
    await waitFor('the batch to be applied', async () => (await redis.client.get(B)) === '10');
    await redis.client.incrby(A, 100);
    proxy.refuseConnections(false);
    expect((await adding).map(({ value }) => value)).toEqual([1, 10, 2]);
    expect(fault.count).toBe(1);
    expect(await redis.client.mget(A, B)).toEqual(['102', '10']);
  });

  it('[CT-14] [CT-3] a copy changes nothing after a batch on other counters', async () => {
    const late = proxy.deliverLate(300, scripts);
    await counters.add(A, 1);
    await counters.add(B, 10);
    await late.delivered;
    expect(await redis.client.mget(A, B)).toEqual(['1', '10']);
  });

  it('[CT-14] [CT-3] an old batch changes nothing after one on other counters', async () => {
    const late = proxy.deliverLate(800, scripts);
    proxy.refuseConnections(true);
    await expect(counters.add(A, 1, { timeoutMs: 300 })).rejects.toThrow(OutcomeUnknownError);
    proxy.refuseConnections(false);
    await counters.add(B, 10);
    await late.delivered;
    expect(await redis.client.mget(A, B)).toEqual([null, '10']);
  });

  it('[CT-14] are all applied, or none when Redis is out of memory', async () => {
    await redis.client.mset(A, 5, B, 5);
    await redis.client.config('SET', 'maxmemory', '1');
    try {
      for (const marker of [true, false]) {
        const calls = [
          counters.add(A, 1, { deduplicate: marker }),
          counters.add(B, 1, { deduplicate: marker }),
        ];
        for (const one of await Promise.allSettled(calls))
          expect(one).toMatchObject({ reason: { reply: 'OOM', outcome: 'not-applied', retryable: true } });
      }
    } finally {
      await redis.client.config('SET', 'maxmemory', '0');
    }
    expect(await redis.client.mget(A, B)).toEqual(['5', '5']);
    expect(await redis.client.keys('atomic:*')).toEqual([]);
  });

  describe('equal additions to one counter in a batch', () => {
    it('[CT-15] are sent and answered as one, and each gets its own result', async () => {
      await redis.client.set('n', 5);
      const monitor = await redis.client.monitor();
      const sent: string[][] = [];
      monitor.on('monitor', (_time: string, args: string[]) => sent.push(args));
      const results = await Promise.all(times(300, () => counters.add('n', 2, { max: 100 })));
      await waitFor('the script to be seen', () => sent.some(([name]) => name === 'evalsha'));
      monitor.disconnect();
      const [script] = sent.filter(([name]) => name === 'evalsha');
      // The hash, the keys, and few arguments.
      expect(script).toHaveLength(3 + 4 + 4);
      expect(results).toEqual([
        ...times(47, (i) => ({ value: 7 + 2 * i, applied: 2, limited: false })),
        ...times(253, () => ({ value: 99, applied: 0, limited: true })),
      ]);
    });

    it.each(['skip', 'clamp'] as const)(
      '[CT-15] are merged only with the same bounds (%s)',
      async (onLimit) => {
        await redis.client.set('n', 1);
        const maxima = [4, 4, 5, 9, 9];
        const results = await Promise.all(maxima.map((max) => counters.add('n', 2, { max, onLimit })));
        const [second, third] =
          onLimit === 'clamp'
            ? [
                [4, 1],
                [5, 1],
              ]
            : [
                [3, 0],
                [5, 2],
              ];
        expect(results.map(({ value, applied }) => [value, applied])).toEqual([
          ...[[3, 2], second, third],
          ...[
            [7, 2],
            [9, 2],
          ],
        ]);
      },
    );

    it('[CT-15] clamp to what is left, and each undoes only what it added', async () => {
      await redis.client.set('n', 1);
      const adds: Undoable<CounterResult<number>>[] = await Promise.all(
        times(6, () => counters.addUndoable('n', 4, { max: 10, onLimit: 'clamp' })),
      );
      expect(adds.map(({ value, applied, limited }) => [value, applied, limited])).toEqual([
        [5, 4, false],
        [9, 4, false],
        [10, 1, true],
        ...times(3, () => [10, 0, true]),
      ]);
      expect(await Promise.all(adds.map(({ undo }) => undo()))).toEqual(times(6, () => true));
      expect(await redis.client.get('n')).toBe('1');
    });

    it('[CT-15] set a time to live once, or slide it', async () => {
      const ttlMs = 50_000;
      await Promise.all(times(5, () => counters.add('n', 1, { ttlMs })));
      expect(await redis.client.pttl('n')).toBeGreaterThan(40_000);
      await Promise.all(times(5, () => counters.add('n', 1, { ttlMs: 500_000 })));
      expect(await redis.client.pttl('n')).toBeLessThanOrEqual(50_000);
      await Promise.all(times(5, () => counters.add('n', 1, { ttlMs: 500_000, ttl: 'sliding' })));
      expect(await redis.client.pttl('n')).toBeGreaterThan(400_000);
      expect(await redis.client.get('n')).toBe('15');
    });

    it('[CT-15] [CT-3] keep their own time-outs', async () => {
      proxy.cutBeforeServer(scripts);
      proxy.refuseConnections(true);
      const [hasty, patient] = [
        counters.add('n', 1, { timeoutMs: 200 }),
        counters.add('n', 1, { timeoutMs: 10_000 }),
      ];
      await expect(hasty).rejects.toThrow(OutcomeUnknownError);
      proxy.refuseConnections(false);
      expect(await patient).toEqual({ value: 1, applied: 1, limited: false });
    });
  });
});
