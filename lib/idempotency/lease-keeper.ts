import { LeaseLostError } from './idempotency.errors.js';

/** A run's hold on its key. */
export interface Lease {
  readonly leaseMs: number;
  /** Resolves with whether the run still has the key. */
  renew(): Promise<boolean>;
  lost(reason: LeaseLostError): void;
}

interface Held {
  readonly lease: Lease;
  /** Monotonic time at which the last renewal that Redis confirmed was sent. */
  confirmedAt: number;
  renewing: boolean;
}

/**
 * Renews the leases of all runs of this process from one timer, each at a third of its time. The renewals of a tick leave together.
 *
 * A lease counts as lost when Redis says so, and also when none of its renewals was confirmed for its whole length by this process's
 * monotonic clock: Redis has let it expire by then.
 */
export class LeaseKeeper {
  private readonly held = new Map<Lease, Held>();
  private timer: NodeJS.Timeout | undefined;
  private timerMs = Infinity;

  /** @param claimedAt monotonic time at which the claim was sent */
  hold(lease: Lease, claimedAt: number): void {
    this.held.set(lease, { lease, confirmedAt: claimedAt, renewing: false });
    if (lease.leaseMs / 3 < this.timerMs) this.startTimer(lease.leaseMs / 3);
  }

  letGo(lease: Lease): void {
    this.held.delete(lease);
    if (this.held.size > 0) return;
    clearInterval(this.timer);
    this.timerMs = Infinity;
  }

  private startTimer(ms: number): void {
    clearInterval(this.timer);
    this.timerMs = ms;
    this.timer = setInterval(() => this.tick(), ms);
  }

  private tick(): void {
    const now = performance.now();
    for (const held of this.held.values()) {
      const age = now - held.confirmedAt;
      if (age >= held.lease.leaseMs) this.lose(held);
      // Half a tick early rather than a tick late.
      else if (age >= held.lease.leaseMs / 3 - this.timerMs / 2 && !held.renewing) void this.renew(held, now);
    }
  }

  private async renew(held: Held, sentAt: number): Promise<void> {
    held.renewing = true;
    try {
      if (await held.lease.renew()) held.confirmedAt = sentAt;
      else this.lose(held);
    } catch {
      // Not answered: the next tick tries again, and the lease's length bounds how long that may go on.
    } finally {
      held.renewing = false;
    }
  }

  private lose(held: Held): void {
    if (!this.held.has(held.lease)) return;
    this.letGo(held.lease);
    held.lease.lost(new LeaseLostError());
  }
}
