import { fc } from '../support/property.js';
import type { Limit, LimitsResult } from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';
import { clocked, WrappedLimits } from './wrapped-limits.js';
import { LimitModel } from './limit-model.js';

/**
 * At no border, and so long ago that the longest walk from here, 28 years, ends in the past: a
 * script that reads a time past its limit is refused as late.
 */
const START_US = 900_000_000_123_457n;

/**
 * Amounts that divide a time without and with a rest, and such that no double holds their products.
 */
const limitAmount = fc.oneof(
  fc.integer({ min: 1, max: 12 }),
  fc.constantFrom(7, 97, 1_000, 999_983, 123_456_789, 999_999_999_989, 1_000_000_000_000),
);
const period = fc.oneof(
  fc.integer({ min: 1, max: 40 }),
  fc.constantFrom(97, 1_000, 60_000, 86_400_000, 31_536_000_000),
);

const shape: fc.Arbitrary<Omit<Limit, 'key'>> = fc
  .record({
    algorithm: fc.constantFrom('gcra' as const, 'fixed' as const, 'sliding' as const),
    limit: limitAmount,
    perMs: period,
    burst: fc.option(fc.integer({ min: 1, max: 30 }), { nil: undefined }),
  })
  .map(({ algorithm, limit, perMs, burst }) =>
    algorithm === 'gcra' && burst !== undefined && (burst / limit) * perMs < 1e11
      ? { algorithm, limit, perMs, burst }
      : { algorithm, limit, perMs },
  );

/** A step within one period, because most changes happen where limits fill and empty. */
interface Step {
  readonly part: number;
  readonly back: boolean;
  readonly which: readonly number[];
  readonly costs: readonly number[];
  readonly times: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  part: fc.oneof(
    fc.constant(0),
    fc.double({ min: 0, max: 0.4, noNaN: true }),
    fc.constantFrom(0.1, 0.5, 1, 1.1, 2),
  ),
  back: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
  which: fc.uniqueArray(fc.integer({ min: 0, max: 2 }), { minLength: 1, maxLength: 3 }),
  costs: fc.array(fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1, noNaN: true })), {
    minLength: 1,
    maxLength: 3,
  }),
  times: fc.integer({ min: 1, max: 6 }),
});

const mostOf = ({ limit, burst }: Omit<Limit, 'key'>): number => burst ?? limit;

/** A cost from 1 to all that is ever let through; small ones are frequent. */
const costOf = (one: Omit<Limit, 'key'>, part: number): number =>
  Math.max(1, Math.floor(mostOf(one) * part * part));

/** Returns the number whose product with `value` leaves 1 when divided by `modulus`. */
function inverse(value: bigint, modulus: bigint): bigint {
  let [a, b, x, y] = [value, modulus, 1n, 0n];
  while (b > 0n) [a, b, x, y] = [b, a % b, y, x - (a / b) * y];
  return ((x % modulus) + modulus) % modulus;
}

describe('limits against an exact model', () => {
  const redis = useRedis();
  let limits: WrappedLimits;

  const setClock = (us: bigint): Promise<unknown> => redis.client.set('clock', String(us));

  beforeAll(async () => {
    limits = new WrappedLimits(redis.server.url, clocked);
    await limits.ready();
  });

  afterAll(() => limits.close());

  it('[LM-1] agree with the model in every decision and number, with a clock that also steps back', async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(shape, { minLength: 3, maxLength: 3 }),
        fc.array(step, { maxLength: 14 }),
        async (shapes, steps) => {
          const model = new LimitModel();
          const name = run++;
          let clock = START_US;
          for (const { part, back, which, costs, times } of steps) {
            const { perMs } = shapes[which[0]!]!;
            const us = BigInt(Math.round(part * perMs * 1_000));
            clock += back ? -us : us;
            await setClock(clock);
            // One after the other on the same limits, of which equal ones travel as one.
            const calls = costs.flatMap((cost) =>
              Array.from({ length: times }, () =>
                which.map((i) => ({ key: `${name}:${i}`, ...shapes[i]!, cost: costOf(shapes[i]!, cost) })),
              ),
            );
            const answers = await Promise.all(calls.map((call) => limits.take(call)));
            const expected = calls.map((call) => model.take(call, clock));
            expect(answers).toEqual(expected);
            const all = shapes.map((one, i) => ({ key: `${name}:${i}`, ...one }));
            expect(await limits.peek(all)).toEqual(model.peek(all, clock));
          }
        },
      ),
      { numRuns: 100 },
    );
  }, 240_000);

  it.each([1, 3, 7, 64, 97, 999_983])(
    '[LM-2] gcra accepts each of %i calls per second at its microsecond, and not one microsecond earlier',
    async (limit) => {
      // With less, a call that is later than due by a part of a microsecond would lose that part.
      const one: Limit = { key: 'k', limit, perMs: 1_000, burst: 2 };
      await setClock(START_US);
      expect((await limits.takeOne({ ...one, cost: 2 })).allowed).toBe(true);
      let clock = START_US;
      for (let n = 1n; n <= 40n; n++) {
        // The n-th comes n / limit seconds after the first.
        const due = START_US + (n * 1_000_000n + BigInt(limit) - 1n) / BigInt(limit);
        if (due - 1n >= clock) {
          await setClock(due - 1n);
          expect((await limits.takeOne(one)).allowed).toBe(false);
        }
        clock = due;
        await setClock(clock);
        expect((await limits.takeOne(one)).allowed).toBe(true);
      }
    },
  );

  it('[LM-2] gcra accepts simultaneous calls exactly as often as they fit, to a fraction of a microsecond', async () => {
    const [limit, perMs] = [999_999_999_989n, 86_400_000n];
    const perUs = perMs * 1_000n;
    // After `waited` µs one part of a microsecond is lacking for the third call: no double tells
    // that from nothing.
    const waited = perUs - inverse(limit % perUs, perUs);
    const refilled = (waited * limit + 1n) / perUs;
    const cost = (refilled + 2n) / 3n;
    const one: Limit = { key: 'k', limit: Number(limit), perMs: Number(perMs) };
    const model = new LimitModel();
    const first = { ...one, cost: Number(limit + refilled - 3n * cost) };
    await setClock(START_US);
    expect(await limits.take([first])).toEqual(model.take([first], START_US));
    await setClock(START_US + waited);
    const call = { ...one, cost: Number(cost) };
    const results = await Promise.all(Array.from({ length: 3 }, () => limits.take([call])));
    expect(results).toEqual(results.map(() => model.take([call], START_US + waited)));
    expect(results.map(({ allowed }) => allowed)).toEqual([true, true, false]);
    expect(results[2]!.retryAfterMs).toBe(1);
  });

  it('[LM-3] a fixed window begins at multiples of its length, and the stored window stays when the clock steps back', async () => {
    const one: Limit = { key: 'k', algorithm: 'fixed', limit: 2, perMs: 1_000 };
    const at = async (ms: bigint): Promise<boolean> => {
      await setClock(ms * 1_000n);
      return (await limits.takeOne(one)).allowed;
    };
    expect([await at(1_600_000_000_999n), await at(1_600_000_000_999n)]).toEqual([true, true]);
    expect([await at(1_600_000_000_999n), await at(1_600_000_001_000n)]).toEqual([false, true]);
    // Back in the window before: what is taken counts in the later one.
    expect([await at(1_600_000_000_500n), await at(1_600_000_000_600n)]).toEqual([true, false]);
    expect([await at(1_600_000_001_999n), await at(1_600_000_002_000n)]).toEqual([false, true]);
  });

  it('[LM-4] no window of a sliding limit exceeds the limit, and a refusal lasts at most a tenth too long', async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 8 }),
        fc.constantFrom(1, 9, 10, 97, 1_000),
        fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 10, maxLength: 40 }),
        async (limit, perMs, waits) => {
          const key = `s${run++}`;
          const taken: number[] = [];
          let ms = 1_600_000_000_000;
          for (const wait of waits) {
            ms += Math.ceil((wait * perMs) / 7);
            await setClock(BigInt(ms) * 1_000n);
            const { allowed } = await limits.takeOne({ key, algorithm: 'sliding', limit, perMs });
            const within = (length: number): number => taken.filter((at) => at > ms - length).length;
            if (allowed) expect(within(perMs)).toBeLessThan(limit);
            else expect(within(Math.ceil(perMs * 1.1))).toBeGreaterThanOrEqual(limit);
            if (allowed) taken.push(ms);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('[LM-1] forget nothing too early when the limit of a key is changed', async () => {
    await setClock(START_US);
    const of = (limit: number): Limit => ({ key: 'k', limit, perMs: 1_000, burst: 10 });
    const results: LimitsResult[] = [];
    for (const limit of [7, 7, 3]) results.push(await limits.take([of(limit)]));
    expect(results.map(({ allowed }) => allowed)).toEqual([true, true, true]);
    // Two sevenths of a second and one third, each rounded up.
    const { resetMs } = (await limits.peek([of(3)]))!.limits[0]!;
    expect(resetMs).toBe(Math.ceil(1_000 * (2 / 7 + 1 / 3)));
    await Promise.all([limits.takeOne(of(7)), limits.takeOne(of(3)), limits.takeOne(of(7))]);
    expect((await limits.peek([of(7)]))!.limits[0]!.resetMs).toBe(Math.ceil(1_000 * (4 / 7 + 2 / 3)));
  });
});
