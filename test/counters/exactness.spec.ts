import type { TestingModule } from '@nestjs/testing';
import { fc } from '../support/property.js';
import {
  CounterOverflowError,
  CounterService,
  UnsafeIntegerError,
  type CounterAddOptions,
} from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { int64, MAX_INT64 as MAX, MIN_INT64 as MIN } from '../support/integers.js';
import { useRedis } from '../support/redis.js';

const SAFE = BigInt(Number.MAX_SAFE_INTEGER);

interface Add {
  amount: number | bigint;
  options: CounterAddOptions;
}

type Expected =
  { value: number | bigint; applied: number | bigint; limited: boolean } | 'overflow' | 'inexact';

/** The documented behaviour, in bigints. */
function model(start: bigint | null, adds: readonly Add[]): { end: bigint | null; answers: Expected[] } {
  let end = start;
  const answers = adds.map(({ amount, options: { min, max, onLimit } }): Expected => {
    const current = end ?? 0n;
    const by = BigInt(amount);
    const wanted = current + by;
    const bound = by > 0n ? max : by < 0n ? min : undefined;
    const limited = bound !== undefined && (by > 0n ? wanted > BigInt(bound) : wanted < BigInt(bound));
    let target = wanted;
    if (limited) {
      const room = BigInt(bound) - current;
      target = onLimit === 'clamp' && room !== 0n && room > 0n === by > 0n ? current + room : current;
    }
    if (target > MAX || target < MIN) return 'overflow';
    if (typeof amount === 'number' && (target > SAFE || target < -SAFE)) return 'inexact';
    if (target !== current) end = target;
    const convert = typeof amount === 'number' ? Number : (n: bigint) => n;
    return { value: convert(target), applied: convert(target - current), limited };
  });
  return { end, answers };
}

const safe = fc.oneof(fc.integer({ min: -20, max: 20 }), fc.maxSafeInteger());

const add: fc.Arbitrary<Add> = fc
  .record({
    amount: fc.oneof(int64, safe),
    bounds: fc.tuple(fc.option(int64, { nil: undefined }), fc.option(int64, { nil: undefined })),
    onLimit: fc.constantFrom('skip' as const, 'clamp' as const),
  })
  .map(({ amount, bounds: [one, other], onLimit }) => {
    const [min, max] = one !== undefined && other !== undefined && one > other ? [other, one] : [one, other];
    return { amount, options: { min, max, onLimit } };
  });

/** Some of them several times over: equal ones, made together, travel as one. */
const adds: fc.Arbitrary<Add[]> = fc
  .array(fc.tuple(add, fc.integer({ min: 1, max: 6 })), { minLength: 1, maxLength: 12 })
  .map((repeated) => repeated.flatMap(([one, times]) => Array<Add>(times).fill(one)));

describe('exactness of counters', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestingModule;
  let counters: CounterService;

  beforeAll(async () => {
    app = await boot({ connection: redis.server.url });
    counters = app.get(CounterService);
  });

  const answerOf = ({ amount, options }: Add, key: string): Promise<Expected> =>
    counters.add(key, amount, options).catch((error: unknown) => {
      if (error instanceof CounterOverflowError) return 'overflow';
      if (error instanceof UnsafeIntegerError) return 'inexact';
      throw error;
    });

  it('[CT-5] computes as bigints do over the whole signed 64-bit range, bounds included', async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.option(int64), adds, fc.boolean(), async (start, made, together) => {
        const key = `n${run++}`;
        if (start !== null) await redis.client.set(key, String(start));
        const answers: Expected[] = [];
        if (together) answers.push(...(await Promise.all(made.map((one) => answerOf(one, key)))));
        else for (const one of made) answers.push(await answerOf(one, key));

        const expected = model(start, made);
        expect(answers).toEqual(expected.answers);
        expect(await redis.client.get(key)).toBe(expected.end === null ? null : String(expected.end));
        expect(await counters.getBigInt(key)).toBe(expected.end);
      }),
      { numRuns: 500 },
    );
  });

  it.each([MIN, MIN + 1n, -(2n ** 53n) - 1n, -1n, 1n, 2n ** 53n + 1n, MAX - 1n, MAX])(
    '[CT-5] counts from nothing to %s and undoes it',
    async (amount) => {
      const { undo, ...count } = await counters.addUndoable('n', amount);
      expect(count).toEqual({ value: amount, applied: amount, limited: false });
      expect(await redis.client.get('n')).toBe(String(amount));
      expect(await undo()).toBe(true);
      expect(await redis.client.get('n')).toBe('0');
    },
  );

  it.each([Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER - 45, Number.MIN_SAFE_INTEGER, -0])(
    '[CT-5] returns the number %p unchanged',
    async (amount) => {
      expect((await counters.add('n', amount)).value).toBe(amount + 0);
      expect(await counters.get('n')).toBe(amount === 0 ? null : amount);
    },
  );
});
