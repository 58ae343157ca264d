import path from 'node:path';
import type { TestingModule } from '@nestjs/testing';
import { InvalidArgumentError, LimitService, type Limit } from 'nestjs-atomic-redis';
import { fc } from '../support/property.js';
import { startFaultProxy } from 'nestjs-atomic-redis/testing';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { isScript } from '../support/is-script.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { startWorker } from '../support/workers.js';
import { leaveLapsed } from './lapsed-reservations.js';
import { LimitModel } from './limit-model.js';
import type { Data } from './reserving.worker.js';
import { clocked, WrappedLimits } from './wrapped-limits.js';

const ALGORITHMS = ['gcra', 'fixed', 'sliding'] as const;
const LONG_MS = 31_536_000_000;

type Step =
  | { readonly kind: 'wait'; readonly ms: number }
  | { readonly kind: 'take'; readonly which: readonly number[]; readonly cost: number }
  | {
      readonly kind: 'reserve';
      readonly which: readonly number[];
      readonly cost: number;
      readonly ttlMs: number;
    }
  | { readonly kind: 'settle'; readonly index: number; readonly actual: number };

const which = fc.uniqueArray(fc.integer({ min: 0, max: 2 }), { minLength: 1, maxLength: 3 });
const cost = fc.integer({ min: 1, max: 5 });
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 40 }) }),
  fc.record({ kind: fc.constant('take' as const), which, cost }),
  fc.record({ kind: fc.constant('reserve' as const), which, cost, ttlMs: fc.integer({ min: 1, max: 100 }) }),
  fc.record({
    kind: fc.constant('settle' as const),
    index: fc.nat({ max: 5 }),
    actual: fc.integer({ min: 0, max: 8 }),
  }),
);

describe('reservations of limits', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestingModule;
  let limits: LimitService;

  const start = (connection: string): Promise<TestingModule> => boot({ connection, timeoutMs: 20_000 });

  beforeAll(async () => {
    app = await start(redis.server.url);
    limits = app.get(LimitService);
  });

  afterAll(() => app.close());

  const of = (more: Partial<Limit> = {}): Limit => ({ key: 'k', limit: 10, perMs: LONG_MS, ...more });
  const remaining = async (one: Limit): Promise<number> => (await limits.peek(one)).remaining;

  it('[LM-9] agree with an exact model, on a clock that the test sets', async () => {
    const onClock = new WrappedLimits(redis.server.url, clocked);
    await onClock.ready();
    let run = 0;
    try {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), async (steps) => {
          const model = new LimitModel();
          const prefix = `${run++}`;
          const all: Limit[] = [
            { key: `${prefix}g`, algorithm: 'gcra', limit: 7, perMs: 100, burst: 9 },
            { key: `${prefix}f`, algorithm: 'fixed', limit: 8, perMs: 90 },
            { key: `${prefix}s`, algorithm: 'sliding', limit: 8, perMs: 70 },
          ];
          const made: { id: string; limits: Limit[] }[] = [];
          let clock = 1_600_000_000_123_457n;
          await redis.client.set('clock', String(clock));
          for (const [i, one] of steps.entries()) {
            if (one.kind === 'wait') {
              clock += BigInt(one.ms) * 1_000n + 1n;
              await redis.client.set('clock', String(clock));
            } else if (one.kind === 'settle') {
              const reservation = made[one.index];
              if (!reservation) continue;
              const actual = reservation.limits.map((_, n) => one.actual + n);
              const settled = await onClock.settle(reservation.id, actual);
              expect(settled).toBe(model.settle(reservation.limits, clock, reservation.id, actual));
            } else {
              const some = one.which.map((n) => ({ ...all[n]!, cost: one.cost }));
              if (one.kind === 'take') {
                expect(await onClock.take(some)).toEqual(model.take(some, clock));
              } else {
                const reserved = await onClock.reserve(some, one.ttlMs);
                const id = reserved.id ?? `refused ${i}`;
                expect(reserved.allowed).toBe(model.reserve(some, clock, one.ttlMs, id));
                if (reserved.allowed) made.push({ id, limits: some });
              }
            }
            expect(await onClock.peek(all)).toEqual(model.peek(all, clock));
          }
        }),
        { numRuns: 150 },
      );
    } finally {
      await onClock.close();
    }
  });

  it.each(ALGORITHMS)(
    '[LM-9] count in full until %s is settled, then with the real cost',
    async (algorithm) => {
      const one = of({ algorithm });
      const reserved = await limits.reserve({ ...one, cost: 6 }, { ttlMs: LONG_MS });
      expect(reserved).toMatchObject({ allowed: true, limits: [{ key: 'k', remaining: 4 }] });
      expect(await limits.take({ ...one, cost: 5 })).toMatchObject({ allowed: false, remaining: 4 });
      const refused = await limits.reserve({ ...one, cost: 5 }, { ttlMs: 1_000 });
      expect(refused).toMatchObject({ allowed: false, id: undefined, expiresAtMs: undefined });
      expect(await limits.settle(reserved.id!, 2)).toBe(true);
      expect(await remaining(one)).toBe(8);
      // Once: it is over.
      expect(await limits.settle(reserved.id!, 2)).toBe(false);
      expect(await remaining(one)).toBe(8);
    },
  );

  it.each(ALGORITHMS)('[LM-9] of %s can settle to nothing, and to more than the limit', async (algorithm) => {
    const one = of({ algorithm });
    const first = await limits.reserve({ ...one, cost: 6 }, { ttlMs: LONG_MS });
    await limits.settle(first.id!, 0);
    expect(await remaining(one)).toBe(10);
    expect(await redis.client.keys('atomic:limit*')).toEqual([]);
    const second = await limits.reserve({ ...one, cost: 1 }, { ttlMs: LONG_MS });
    await limits.settle(second.id!, 15);
    expect(await limits.take(one)).toMatchObject({ allowed: false, remaining: 0 });
  });

  it('[LM-9] lapse by themselves, and cannot be settled afterwards', async () => {
    const one = of();
    const lapsing = await limits.reserve({ ...one, cost: 4 }, { ttlMs: 1 });
    const lasting = await limits.reserve({ ...one, cost: 3 }, { ttlMs: LONG_MS });
    await waitFor('the lapse', async () => (await remaining(one)) === 7);
    expect(await limits.settle(lapsing.id!, 1)).toBe(false);
    expect((await limits.take({ ...one, cost: 7 })).allowed).toBe(true);
    expect(await limits.settle(lasting.id!, 3)).toBe(true);
    expect(await remaining(one)).toBe(0);
  });

  it.each(['peek', 'take'] as const)(
    '[LM-9] that lapsed by the thousand are given back in parts by a %s, which returns the final state',
    async (call) => {
      const one = of({ limit: 5_000, algorithm: 'fixed' });
      await limits.reserve(one, { ttlMs: LONG_MS });
      await leaveLapsed(redis.client, one, 2_500);
      const counts = await countCommands(redis.client, async () => {
        expect((await limits[call](one)).remaining).toBe(call === 'peek' ? 4_999 : 4_998);
      });
      const [holds] = await redis.client.keys('atomic:limit-holds*');
      expect(await redis.client.zcard(holds!)).toBe(1);
      // Three rounds of a thousand, and the call before them.
      expect(counts).toMatchObject({ evalsha: call === 'peek' ? 3 : 4 });
    },
  );

  it.each([
    ['settle', true, 4_997],
    ['settle', false, 4_999],
    ['reserve', true, 4_997],
  ] as const)(
    '[LM-9] that lapsed by the thousand on each of two limits make a %s return %s after giving them back',
    async (call, expected, left) => {
      const all = ['a', 'b'].map((key) => of({ key, limit: 5_000, algorithm: 'fixed' }));
      await limits.reserve(all, { ttlMs: LONG_MS });
      const { id } = await limits.reserve(all, { ttlMs: LONG_MS });
      if (!expected) await limits.settle(id!, 0);
      for (const one of all) await leaveLapsed(redis.client, one, 1_000);
      const counts = await countCommands(redis.client, async () => {
        if (call === 'settle') expect(await limits.settle(id!, 2)).toBe(expected);
        else expect((await limits.reserve(all, { ttlMs: LONG_MS })).allowed).toBe(expected);
      });
      expect(counts['evalsha']).toBeLessThanOrEqual(3);
      for (const one of all) expect(await remaining(one)).toBe(left);
    },
  );

  it('[LM-9] of several limits are made of all or of none, and each has its own cost', async () => {
    const [requests, tokens] = [of({ key: 'requests' }), of({ key: 'tokens', limit: 100, cost: 40 })];
    const reserved = await limits.reserve([requests, tokens], { ttlMs: LONG_MS });
    expect((await limits.reserve([requests, { ...tokens, cost: 61 }], { ttlMs: LONG_MS })).allowed).toBe(
      false,
    );
    expect([await remaining(requests), await remaining(tokens)]).toEqual([9, 60]);
    for (const actual of [[1], [1, 33, 1]])
      await expect(limits.settle(reserved.id!, actual)).rejects.toThrow(InvalidArgumentError);
    expect(await limits.settle(reserved.id!, [1, 33])).toBe(true);
    expect([await remaining(requests), await remaining(tokens)]).toEqual([9, 67]);
  });

  it('[LM-9] keep a caller waiting that lacks a part of a microsecond of what is not reserved', async () => {
    // One call takes a third of a microsecond.
    const one = of({ limit: 3_000_000, perMs: 1_000 });
    await limits.reserve({ ...one, cost: 2_999_999 }, { ttlMs: LONG_MS });
    const refused = await limits.take({ ...one, cost: 2 });
    expect(refused.allowed).toBe(false);
    expect(refused.retryAfterMs).toBeGreaterThan(LONG_MS / 2);
    expect((await limits.take(one)).allowed).toBe(true);
  });

  it('[LM-9] are not settled for a cost that would never refill', async () => {
    const { id } = await limits.reserve(of(), { ttlMs: LONG_MS });
    const refused = await limits.settle(id!, 1_000_000_000).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(InvalidArgumentError);
    expect(refused).toMatchObject({ argument: 'actual' });
    expect(await remaining(of())).toBe(9);
  });

  it('[LM-6] leave only keys that expire, also when nobody asks for the limit again', async () => {
    await limits.reserve(of({ perMs: 60_000 }), { ttlMs: 60_000 });
    const keys = await redis.client.keys('atomic:limit*');
    expect(keys).toHaveLength(2);
    for (const key of keys) expect(await redis.client.pttl(key)).toBeGreaterThan(0);
  });

  it('[LM-9] are void once their limit was reset', async () => {
    const { id } = await limits.reserve({ ...of(), cost: 4 }, { ttlMs: LONG_MS });
    expect(await limits.reset(of())).toBe(true);
    expect(await limits.settle(id!, 4)).toBe(false);
    expect(await remaining(of())).toBe(10);
  });

  it('[LM-9] are void once Redis has evicted them, and later ones still lapse', async () => {
    await limits.reserve({ ...of(), cost: 4 }, { ttlMs: LONG_MS });
    await redis.client.del(await redis.client.keys('atomic:limit-holds*'));
    const { id } = await limits.reserve(of(), { ttlMs: LONG_MS });
    const other = await limits.reserve(of(), { ttlMs: LONG_MS });
    expect(await remaining(of())).toBe(8);
    expect(await limits.settle(id!, 0)).toBe(true);
    expect(await remaining(of())).toBe(9);
    expect(await limits.settle(other.id!, 0)).toBe(true);
    expect(await remaining(of())).toBe(10);
  });

  it.each(['', 'x', Buffer.from('["a"]').toString('base64url')])('[LM-9] reject the id %p', async (id) => {
    if (id === '') await expect(limits.settle(id, 1)).rejects.toThrow(InvalidArgumentError);
    else expect(await limits.settle(id, 1)).toBe(false);
  });

  it('[LM-9] are made and settled once when replies are lost', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    const behind = await start(proxy.url);
    try {
      const service = behind.get(LimitService);
      proxy.loseReplies(isScript);
      const { id } = await service.reserve({ ...of(), cost: 4 }, { ttlMs: LONG_MS });
      expect(await remaining(of())).toBe(6);
      proxy.loseReplies(isScript);
      expect(await service.settle(id!, 1)).toBe(true);
      expect(await remaining(of())).toBe(9);
    } finally {
      await behind.close();
      await proxy.stop();
    }
  });

  it('[LM-10] of killed processes are all given back', async () => {
    const one = of({ limit: 1_000 });
    const data: Data = { url: redis.server.url, limit: one, ttlMs: 3_000 };
    const script = path.join(__dirname, 'reserving.worker.ts');
    const workers = Array.from({ length: 3 }, (_, index) => startWorker<never>({ script, data, index }));
    await Promise.all(workers.map((process) => process.next()));
    await waitFor('reservations', async () => (await remaining(one)) < 1_000);
    await Promise.all(workers.map((process) => process.kill()));
    await waitFor('all to be given back', async () => (await remaining(one)) === 1_000);
    expect((await limits.take({ ...one, cost: 1_000 })).allowed).toBe(true);
  });
});
