import { LeaseLostError } from '../atomic-redis.errors.js';
import { RunTimeoutError } from './idempotency.errors.js';
import type { Renewal } from './renew.script.js';

/** A run's hold on its key. */
export interface Lease {
  readonly record: string;
  readonly token: string;
  readonly fingerprint: string;
  readonly leaseMs: number;
  /** After this long the lease is renewed no more, in milliseconds. */
  readonly maxRunMs: number;
  /** Called at most once, after which nothing is renewed. */
  lost(reason: Error): void;
}

/** Renews leases together. Resolves with what became of each; rejects when none was answered. */
export type RenewLeases = (leases: readonly Lease[]) => Promise<readonly Renewal[]>;

interface Held {
  readonly lease: Lease;
  /** Monotonic time at which the claim was sent. */
  readonly claimedAt: number;
  /** Monotonic time at which the last renewal that Redis confirmed was sent. */
  confirmedAt: number;
  renewing: Promise<unknown> | undefined;
  /** Monotonic time before which no renewal is sent. */
  pausedUntil: number;
  /** Renewals sent so far. */
  renewals: number;
}

/** Ticks in the length of the shortest lease; a lease is renewed at a third of it, and tried again at each tick. */
const TICKS = 6;

/**
 * Renews the leases of all runs of one service from one timer. The renewals of a tick leave together.
 *
 * A lease counts as lost when Redis says so, and also when it would be unconfirmed for its whole length, by this process's monotonic
 * clock, before the next tick: rather early than after Redis has let it expire.
 */
export class LeaseKeeper {
  private readonly held = new Map<Lease, Held>();
  private timer: NodeJS.Timeout | undefined;
  private tickMs = Infinity;
  private closedBy: Error | undefined;

  constructor(private readonly renewLeases: RenewLeases) {}

  /** @param claimedAt monotonic time at which the claim was sent */
  hold(lease: Lease, claimedAt: number): void {
    if (this.closedBy) return lease.lost(this.closedBy);
    const fresh = {
      lease,
      claimedAt,
      confirmedAt: claimedAt,
      renewing: undefined,
      pausedUntil: 0,
      renewals: 0,
    };
    this.held.set(lease, fresh);
    const tickMs = Math.min(lease.leaseMs / TICKS, lease.maxRunMs);
    const isOnly = this.held.size === 1;
    if (tickMs < this.tickMs || (isOnly && tickMs !== this.tickMs)) this.startTimer(tickMs);
    else if (isOnly) this.timer?.ref();
  }

  /** Stops renewing for good and tells every run so. What they hold is left to its lease: a method that has not settled may yet write. */
  close(reason: Error): void {
    this.closedBy ??= reason;
    for (const { lease } of [...this.held.values()]) {
      this.letGo(lease);
      lease.lost(reason);
    }
    this.stopTimer();
  }

  letGo(lease: Lease): void {
    this.held.delete(lease);
    // It stops at its next tick; the next run is mostly there before.
    if (this.held.size === 0) this.timer?.unref();
  }

  /**
   * Renews at once, and then not before {@link resume}, or a third of the lease has passed. A renewal that is under way is waited for.
   *
   * @returns whether the run still has the key
   */
  async renewAndPause(lease: Lease): Promise<boolean> {
    const held = this.held.get(lease);
    if (!held) return false;
    await held.renewing?.catch(() => undefined);
    const now = performance.now();
    held.pausedUntil = now + lease.leaseMs / 3;
    await this.renew([held], now);
    return this.held.has(lease) && held.confirmedAt >= now;
  }

  resume(lease: Lease): void {
    const held = this.held.get(lease);
    if (held) held.pausedUntil = 0;
  }

  /** How many renewals were sent for the lease. */
  renewalsOf(lease: Lease): number {
    return this.held.get(lease)?.renewals ?? 0;
  }

  private startTimer(ms: number): void {
    clearInterval(this.timer);
    this.tickMs = ms;
    this.timer = setInterval(() => this.tick(), ms);
  }

  private stopTimer(): void {
    clearInterval(this.timer);
    this.tickMs = Infinity;
  }

  private tick(): void {
    if (this.held.size === 0) return this.stopTimer();
    const now = performance.now();
    const due: Held[] = [];
    for (const held of this.held.values()) {
      const { leaseMs, maxRunMs } = held.lease;
      const age = now - held.confirmedAt;
      if (now - held.claimedAt > maxRunMs) this.lose(held, new RunTimeoutError(maxRunMs));
      else if (age + this.tickMs > leaseMs) this.lose(held, new LeaseLostError());
      else if (age > leaseMs / 3 - this.tickMs / 2 && now >= held.pausedUntil && !held.renewing)
        due.push(held);
    }
    // Not answered: the next tick tries again.
    if (due.length > 0) this.renew(due, now).catch(() => undefined);
  }

  private async renew(due: readonly Held[], sentAt: number): Promise<void> {
    const renewing = this.renewLeases(due.map(({ lease }) => lease));
    for (const held of due) {
      held.renewals++;
      held.renewing = renewing;
    }
    try {
      const answers = await renewing;
      due.forEach((held, i) => {
        if (answers[i] === 'renewed') held.confirmedAt = sentAt;
        else if (answers[i] === 'lost') this.lose(held, new LeaseLostError());
      });
    } finally {
      for (const held of due) held.renewing = undefined;
    }
  }

  private lose(held: Held, reason: Error): void {
    if (!this.held.has(held.lease)) return;
    this.letGo(held.lease);
    held.lease.lost(reason);
  }
}
