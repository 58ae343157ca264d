import type { CheckedLimit } from './limit.js';

/** One limit, as a call found or left it. */
export interface LimitResult {
  /** True if this limit lets the call through. */
  readonly allowed: boolean;
  /** The amount that can be taken right now, after the call. */
  readonly remaining: number;
  /**
   * When the same call would be let through if nothing else were taken, in milliseconds from now,
   * rounded up; 0 when it is let through. Where reservations stand in its way, at the earliest
   * then.
   */
  readonly retryAfterMs: number;
  /**
   * When the limit is unused again if nothing else is taken, in milliseconds from now, rounded up;
   * reservations left aside.
   */
  readonly resetMs: number;
  /** As it was given. */
  readonly limit: number;
}

/** The result of a call on several limits. */
export interface LimitsResult {
  /** True if all limits let the call through. If false, nothing was taken from any. */
  readonly allowed: boolean;
  /** The longest of the limits that refuse; 0 when none does. */
  readonly retryAfterMs: number;
  /** In the order given. */
  readonly limits: readonly (LimitResult & { readonly key: string })[];
}

/** A limit as a script found it. */
export interface Found {
  readonly used: number;
  readonly usedRest: number;
  readonly held: number;
  readonly heldRest: number;
  /** When the first reservation lapses, in milliseconds from now; 0 when nothing is reserved. */
  readonly lapsesInMs: number;
  /**
   * Returns when an amount that is taken now leaves a `fixed` or `sliding` limit, in ms from now.
   */
  readonly leavesInMs: number;
  /** The buckets of `sliding`, oldest first: the time at which each leaves, and its used amount. */
  readonly buckets: readonly (readonly [leavesInMs: number, used: number])[];
}

const NO_BUCKETS: Found['buckets'] = [];

/**
 * Reads a limit's part of a script's answer.
 * @param text as `describe` in lua-limit.ts makes it
 */
export function foundIn({ algorithm }: CheckedLimit, text: string): Found {
  const parts = text.split(':');
  const second = parts[1]!;
  const isReserved = parts.length > 2;
  return {
    used: Number(parts[0]),
    usedRest: algorithm === 'gcra' ? Number(second) : 0,
    held: isReserved ? Number(parts[2]) : 0,
    heldRest: isReserved ? Number(parts[3]) : 0,
    lapsesInMs: isReserved ? Number(parts[4]) : 0,
    leavesInMs: algorithm === 'gcra' ? 0 : Number.parseInt(second, 10),
    buckets: algorithm === 'sliding' ? bucketsIn(second) : NO_BUCKETS,
  };
}

function bucketsIn(text: string): Found['buckets'] {
  const numbers = text.split('.').map(Number);
  const buckets = [];
  for (let i = 1; i < numbers.length; i += 2) buckets.push([numbers[i]!, numbers[i + 1]!] as const);
  return buckets;
}

/**
 * Tells how a limit is after `times` calls at its cost, and whether another one would be let
 * through.
 * @param found the limit before those calls
 */
export function resultAfter(limit: CheckedLimit, found: Found, times: number): LimitResult {
  const { modulus, capacity, capacityRest, price, priceRest } = limit;
  const chargedRest = found.usedRest + times * priceRest;
  const usedRest = chargedRest % modulus;
  const used = found.used + times * price + (chargedRest - usedRest) / modulus;
  const usedRoundedUp = used + (usedRest > 0 ? 1 : 0);
  const unreserved = amount(capacity - found.held, capacityRest - found.heldRest, modulus);
  const room = amount(unreserved.whole - used, unreserved.rest - usedRest, modulus);
  const lacks = price - room.whole + (priceRest > room.rest ? 1 : 0);
  const allowed = lacks <= 0;
  // A reserved amount does not become free with the window, but at the earliest when it lapses.
  const reservedForMs =
    price - unreserved.whole + (priceRest > unreserved.rest ? 1 : 0) > 0 ? found.lapsesInMs : 0;
  return {
    allowed,
    remaining: remainingIn(limit, room),
    retryAfterMs: allowed
      ? 0
      : Math.max(1, reservedForMs, waitMs(limit, found, Math.min(lacks, usedRoundedUp))),
    resetMs: resetMs(limit, found, usedRoundedUp, times),
    limit: limit.limit,
  };
}

interface Amount {
  readonly whole: number;
  /** At least 0, and less than the modulus. */
  readonly rest: number;
}

function amount(whole: number, rest: number, modulus: number): Amount {
  const borrowed = Math.floor(rest / modulus);
  return { whole: whole + borrowed, rest: rest - borrowed * modulus };
}

/**
 * The result of a call that was let through: `taken` calls of its run were, this one the last of
 * them.
 */
export function resultOf(limit: CheckedLimit, found: Found, taken: number): LimitResult {
  const after = resultAfter(limit, found, taken);
  return {
    allowed: true,
    remaining: after.remaining,
    retryAfterMs: 0,
    resetMs: after.resetMs,
    limit: limit.limit,
  };
}

export function combined(limits: readonly CheckedLimit[], results: readonly LimitResult[]): LimitsResult {
  return {
    allowed: results.every(({ allowed }) => allowed),
    retryAfterMs: Math.max(...results.map(({ retryAfterMs }) => retryAfterMs)),
    limits: results.map((result, i) => ({ key: limits[i]!.key, ...result })),
  };
}

/** Returns the number of intervals of `perMs / limit` that fit into a time, for `gcra`. */
function remainingIn({ algorithm, limit, perMs }: CheckedLimit, { whole, rest }: Amount): number {
  if (whole < 0) return 0;
  if (algorithm !== 'gcra') return whole;
  const parts = whole * limit + rest;
  if (Number.isSafeInteger(parts)) return Math.floor(parts / (perMs * 1_000));
  return Number((BigInt(whole) * BigInt(limit) + BigInt(rest)) / BigInt(perMs * 1_000));
}

/** Returns when so much of what is used becomes free, in milliseconds from now. */
function waitMs({ algorithm }: CheckedLimit, { leavesInMs, buckets }: Found, lacks: number): number {
  if (lacks === 0) return 0;
  if (algorithm === 'gcra') return Math.ceil(lacks / 1_000);
  let free = 0;
  for (const [leaves, used] of buckets) {
    free += used;
    if (free >= lacks) return leaves;
  }
  return leavesInMs;
}

/** @param used rounded up */
function resetMs({ algorithm }: CheckedLimit, found: Found, used: number, times: number): number {
  if (used === 0) return 0;
  if (algorithm === 'gcra') return Math.ceil(used / 1_000);
  if (algorithm === 'fixed' || times > 0) return found.leavesInMs;
  return found.buckets.at(-1)![0];
}
