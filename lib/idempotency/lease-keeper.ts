import { LeaseLostError } from './idempotency.errors.js';

/** A run's hold on its key. */
export interface Lease {
  readonly leaseMs: number;
  /** Resolves with whether the run still has the key. */
  renew(): Promise<boolean>;
  /** Called at most once, after which nothing is renewed. */
  lost(reason: Error): void;
}

interface Held {
  readonly lease: Lease;
  /** Monotonic time at which the last renewal that Redis confirmed was sent. */
  confirmedAt: number;
  renewing: Promise<boolean> | undefined;
  /** Monotonic time before which no renewal is sent. */
  pausedUntil: number;
  /** Renewals sent so far. */
  renewals: number;
}

/** Ticks in the length of the shortest lease; a lease is renewed at a third of it, and tried again at each tick. */
const TICKS = 6;

/**
 * Renews the leases of all runs of this process from one timer. The renewals of a tick leave together.
 *
 * A lease counts as lost when Redis says so, and also when it would be unconfirmed for its whole length, by this process's monotonic
 * clock, before the next tick: rather early than after Redis has let it expire.
 */
export class LeaseKeeper {
  private readonly held = new Map<Lease, Held>();
  private timer: NodeJS.Timeout | undefined;
  private tickMs = Infinity;
  private closedBy: Error | undefined;

  /** @param claimedAt monotonic time at which the claim was sent */
  hold(lease: Lease, claimedAt: number): void {
    if (this.closedBy) return lease.lost(this.closedBy);
    const fresh = { lease, confirmedAt: claimedAt, renewing: undefined, pausedUntil: 0, renewals: 0 };
    this.held.set(lease, fresh);
    if (lease.leaseMs / TICKS < this.tickMs) this.startTimer(lease.leaseMs / TICKS);
  }

  /** Stops renewing for good and tells every run so. What they hold is left to its lease: a method that has not settled may yet write. */
  close(reason: Error): void {
    this.closedBy ??= reason;
    for (const { lease } of [...this.held.values()]) {
      this.letGo(lease);
      lease.lost(reason);
    }
  }

  letGo(lease: Lease): void {
    this.held.delete(lease);
    if (this.held.size > 0) return;
    clearInterval(this.timer);
    this.tickMs = Infinity;
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
    return await this.renew(held, now);
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

  private tick(): void {
    const now = performance.now();
    for (const held of this.held.values()) {
      const age = now - held.confirmedAt;
      if (age + this.tickMs > held.lease.leaseMs) this.lose(held);
      else if (age > held.lease.leaseMs / 3 - this.tickMs / 2 && now >= held.pausedUntil && !held.renewing) {
        // Not answered: the next tick tries again.
        this.renew(held, now).catch(() => undefined);
      }
    }
  }

  private async renew(held: Held, sentAt: number): Promise<boolean> {
    held.renewals++;
    held.renewing = held.lease.renew();
    try {
      const isOwner = await held.renewing;
      if (isOwner) held.confirmedAt = sentAt;
      else this.lose(held);
      return isOwner;
    } finally {
      held.renewing = undefined;
    }
  }

  private lose(held: Held): void {
    if (!this.held.has(held.lease)) return;
    this.letGo(held.lease);
    held.lease.lost(new LeaseLostError());
  }
}
