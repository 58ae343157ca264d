import type { Limit, LimitsResult } from 'nestjs-atomic-redis';

const US = 1_000n;
const BUCKETS = 10n;

const ceil = (dividend: bigint, divisor: bigint): bigint => (dividend + divisor - 1n) / divisor;
const max = (...all: bigint[]): bigint => all.reduce((a, b) => (a > b ? a : b));
const min = (a: bigint, b: bigint): bigint => (a < b ? a : b);

interface Held {
  readonly cost: bigint;
  readonly lapsesMs: bigint;
}

interface Tally {
  /** gcra: the theoretical arrival time, µs times limit. */
  tat: bigint;
  /** fixed and sliding: what was taken, by the beginning of the window or bucket, µs. */
  readonly taken: Map<bigint, bigint>;
  readonly held: Map<string, Held>;
}

interface View {
  readonly used: bigint;
  readonly capacity: bigint;
  readonly cost: bigint;
  /** The amount that one request takes. */
  readonly unit: bigint;
  /** When enough of it is free, in ms from now, where nothing is reserved. */
  waitMs(lacks: bigint): bigint;
  readonly resetMs: bigint;
  charge(amount: bigint): void;
}

/** The documented behaviour of limits, in bigints. Its clock is given; it may step back. */
export class LimitModel {
  private readonly tallies = new Map<string, Tally>();

  take(limits: readonly Limit[], nowUs: bigint): LimitsResult {
    const allowed = limits.every((limit) => this.fits(limit, nowUs));
    if (allowed)
      for (const limit of limits) {
        const view = this.view(limit, nowUs);
        view.charge(view.cost);
      }
    return this.result(limits, nowUs, allowed);
  }

  peek(limits: readonly Limit[], nowUs: bigint): LimitsResult {
    return this.result(limits, nowUs, false);
  }

  reserve(limits: readonly Limit[], nowUs: bigint, ttlMs: number, id: string): boolean {
    if (!limits.every((limit) => this.fits(limit, nowUs))) return false;
    for (const limit of limits) {
      const lapsesMs = nowUs / US + BigInt(ttlMs);
      this.tally(limit).held.set(id, { cost: BigInt(limit.cost ?? 1), lapsesMs });
    }
    return true;
  }

  settle(limits: readonly Limit[], nowUs: bigint, id: string, actual: readonly number[]): boolean {
    let isThere = false;
    for (const [i, limit] of limits.entries()) {
      this.lapse(limit, nowUs);
      if (!this.tally(limit).held.delete(id)) continue;
      isThere = true;
      const view = this.view(limit, nowUs);
      view.charge(BigInt(actual[i]!) * view.unit);
    }
    return isThere;
  }

  private tally({ key, algorithm = 'gcra', perMs }: Limit): Tally {
    const name = `${algorithm}:${perMs}:${key}`;
    let tally = this.tallies.get(name);
    if (!tally) this.tallies.set(name, (tally = { tat: 0n, taken: new Map(), held: new Map() }));
    return tally;
  }

  private lapse(limit: Limit, nowUs: bigint): void {
    const { held } = this.tally(limit);
    for (const [id, { lapsesMs }] of held) if (lapsesMs <= nowUs / US) held.delete(id);
  }

  private heldBy(limit: Limit): bigint {
    return [...this.tally(limit).held.values()].reduce((sum, { cost }) => sum + cost, 0n);
  }

  private fits(limit: Limit, nowUs: bigint): boolean {
    this.lapse(limit, nowUs);
    const { used, capacity, cost, unit } = this.view(limit, nowUs);
    return used + this.heldBy(limit) * unit + cost <= capacity;
  }

  private result(limits: readonly Limit[], nowUs: bigint, taken: boolean): LimitsResult {
    const results = limits.map((limit) => {
      this.lapse(limit, nowUs);
      const view = this.view(limit, nowUs);
      const held = this.heldBy(limit) * view.unit;
      const room = view.capacity - view.used - held;
      const allowed = taken || view.cost <= room;
      const lacks = view.cost - room;
      let waitMs = 0n;
      if (!allowed) {
        waitMs = max(1n, view.waitMs(min(lacks, view.used)));
        if (lacks > view.used) {
          const lapses = [...this.tally(limit).held.values()].map(({ lapsesMs }) => lapsesMs - nowUs / US);
          waitMs = max(waitMs, lapses.reduce(min));
        }
      }
      return {
        key: limit.key,
        allowed,
        remaining: Number(max(0n, room) / view.unit),
        retryAfterMs: Number(waitMs),
        resetMs: Number(view.resetMs),
        limit: limit.limit,
      };
    });
    return {
      allowed: results.every(({ allowed }) => allowed),
      retryAfterMs: Math.max(...results.map(({ retryAfterMs }) => retryAfterMs)),
      limits: results,
    };
  }

  private view(limit: Limit, nowUs: bigint): View {
    const capacity = BigInt(limit.burst ?? limit.limit);
    const cost = BigInt(limit.cost ?? 1);
    const tally = this.tally(limit);
    const perMs = BigInt(limit.perMs);
    if ((limit.algorithm ?? 'gcra') === 'gcra') {
      const parts = BigInt(limit.limit);
      const unit = perMs * US;
      const now = nowUs * parts;
      const used = max(0n, tally.tat - now);
      return {
        used,
        capacity: capacity * unit,
        cost: cost * unit,
        unit,
        waitMs: (lacks) => ceil(lacks, parts * US),
        resetMs: ceil(used, parts * US),
        charge: (amount) => void (tally.tat = now + used + amount),
      };
    }
    const isFixed = limit.algorithm === 'fixed';
    const length = isFixed ? perMs * US : (perMs * US) / BUCKETS;
    const kept = isFixed ? 0n : BUCKETS * length;
    // The latest window that anything was taken in stays, also when the clock has stepped back.
    const newest = max(nowUs - (nowUs % length), ...tally.taken.keys());
    const windows = [...tally.taken]
      .filter(([beginning]) => beginning >= newest - kept)
      .toSorted(([a], [b]) => (a < b ? -1 : 1));
    const used = windows.reduce((sum, [, amount]) => sum + amount, 0n);
    const leavesMs = (beginning: bigint): bigint => ceil(beginning + kept + length - nowUs, US);
    return {
      used,
      capacity,
      cost,
      unit: 1n,
      waitMs: (lacks) => {
        let free = 0n;
        for (const [beginning, amount] of windows) {
          free += amount;
          if (free >= lacks) return leavesMs(beginning);
        }
        return 0n;
      },
      resetMs: used === 0n ? 0n : leavesMs(windows.at(-1)![0]),
      charge: (amount) => {
        if (amount === 0n) return;
        // Only a call that takes forgets old windows: after a read the clock may step back.
        for (const beginning of tally.taken.keys())
          if (beginning < newest - kept) tally.taken.delete(beginning);
        tally.taken.set(newest, (tally.taken.get(newest) ?? 0n) + amount);
      },
    };
  }
}
