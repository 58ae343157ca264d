import type { TestingModule } from '@nestjs/testing';
import { fc } from '../support/property.js';
import {
  BalanceOverflowError,
  UnsafeIntegerError,
  InsufficientFundsError,
  NotAnIntegerError,
  TransferService,
  type Balances,
  type Transfer,
} from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { int64, MAX_INT64 as MAX, MIN_INT64 as MIN } from '../support/integers.js';
import { useRedis } from '../support/redis.js';

const SAFE = BigInt(Number.MAX_SAFE_INTEGER);
const KEYS = ['a', 'b', 'c', 'd'];

type Stored = Record<string, string | null>;
type Refusal =
  | { refused: 'insufficient'; leg: number; balance: number | bigint }
  | { refused: 'overflow' | 'inexact'; key: string }
  | { refused: 'garbage' };

const isInteger = (text: string): boolean =>
  /^(0|-?[1-9]\d*)$/.test(text) && BigInt(text) >= MIN && BigInt(text) <= MAX;

/** The documented behaviour, in bigints. */
function model(stored: Stored, legs: readonly Transfer[]): { answer: Balances[] | Refusal; end: Stored } {
  const touched = new Set(legs.flatMap(({ from, to }) => [from, to]));
  for (const key of touched) {
    const text = stored[key];
    if (typeof text === 'string' && !isInteger(text)) return { answer: { refused: 'garbage' }, end: stored };
  }
  const balances = new Map([...touched].map((key) => [key, BigInt(stored[key] ?? 0)]));
  const answer: Balances[] = [];
  for (const [leg, { from, to, amount, min = 0 }] of legs.entries()) {
    const refuse = (refusal: Refusal) => ({ answer: refusal, end: stored });
    const before = balances.get(from)!;
    const left = before - BigInt(amount);
    const reached = balances.get(to)! + BigInt(amount);
    const isExact = (n: bigint): boolean => n >= -SAFE && n <= SAFE;
    if (left < BigInt(min)) {
      const balance = typeof amount === 'number' && isExact(before) ? Number(before) : before;
      return refuse({ refused: 'insufficient', leg, balance });
    }
    if (reached > MAX) return refuse({ refused: 'overflow', key: to });
    if (typeof amount === 'number') {
      if (!isExact(left)) return refuse({ refused: 'inexact', key: from });
      if (!isExact(reached)) return refuse({ refused: 'inexact', key: to });
    }
    balances.set(from, left);
    balances.set(to, reached);
    const convert = typeof amount === 'number' ? Number : (n: bigint) => n;
    answer.push({ from: convert(left), to: convert(reached) });
  }
  return {
    answer,
    end: { ...stored, ...Object.fromEntries([...balances].map(([key, n]) => [key, String(n)])) },
  };
}

const amount = fc.oneof(
  int64.map((n) => (n < 0n ? -(n + 1n) : n) || 1n),
  fc.integer({ min: 1, max: 20 }),
  fc.maxSafeInteger().map((n) => Math.abs(n) || 1),
);

const leg: fc.Arbitrary<Transfer> = fc
  .tuple(
    fc.shuffledSubarray(KEYS, { minLength: 2, maxLength: 2 }),
    amount,
    fc.option(int64, { nil: undefined }),
  )
  .map(([[from, to], by, min]) => ({
    from: from!,
    to: to!,
    amount: by,
    ...(min !== undefined && { min }),
  }));

const balance = fc.oneof(
  { weight: 20, arbitrary: int64.map(String) },
  { weight: 10, arbitrary: fc.integer({ min: 0, max: 100 }).map(String) },
  { weight: 4, arbitrary: fc.constant(null) },
  { weight: 1, arbitrary: fc.constantFrom('x', '', '01', '1.0', '9223372036854775808', '-0') },
);

describe('transfers and their model', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestingModule;
  let transfers: TransferService;

  beforeAll(async () => {
    app = await boot({ connection: redis.server.url });
    transfers = app.get(TransferService);
  });

  const answerOf = (legs: readonly Transfer[]): Promise<Balances[] | Refusal> =>
    transfers.transferAll(legs).catch((error: unknown): Refusal => {
      if (error instanceof InsufficientFundsError)
        return { refused: 'insufficient', leg: error.leg, balance: error.balance };
      if (error instanceof BalanceOverflowError) return { refused: 'overflow', key: error.key };
      if (error instanceof UnsafeIntegerError) return { refused: 'inexact', key: error.key };
      if (error instanceof NotAnIntegerError) return { refused: 'garbage' };
      throw error;
    });

  it('[TR-5] [TR-3] move like bigints over the whole signed 64-bit range, all legs or none', async () => {
    let moved = 0;
    const refusals = new Set<string>();
    await fc.assert(
      fc.asyncProperty(
        fc.tuple(balance, balance, balance, balance),
        fc.array(fc.array(leg, { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 4 }),
        async (start, calls) => {
          await redis.client.del(...KEYS);
          let stored: Stored = Object.fromEntries(KEYS.map((key, i) => [key, start[i]!]));
          for (const [key, text] of Object.entries(stored))
            if (text !== null) await redis.client.set(key, text);
          for (const legs of calls) {
            const expected = model(stored, legs);
            expect(await answerOf(legs)).toEqual(expected.answer);
            stored = expected.end;
            expect(await redis.client.mget(KEYS)).toEqual(KEYS.map((key) => stored[key]));
            if ('refused' in expected.answer) refusals.add(expected.answer.refused);
            else moved++;
          }
        },
      ),
      { numRuns: 500 },
    );
    // The property must not hold for want of cases.
    expect(moved).toBeGreaterThan(50);
    expect([...refusals].toSorted()).toEqual(['garbage', 'inexact', 'insufficient', 'overflow']);
  });
});
