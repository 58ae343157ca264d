/** Moments in the length of a lease at which it is looked after; it is renewed at a third of it, and tried again at each of them. */
export const TICKS = 6;

export interface RenewedLease {
  /** Its length when it is renewed. */
  readonly leaseMs: number;
  /** Monotonic time at which it ends, as far as is confirmed. Whoever prolongs it moves this. */
  readonly leaseEndsAt: number;
  /** Prolongs it, and moves its end. Resolves with whether it is still held. */
  renew(): Promise<boolean>;
  /** Called at most once, after which nothing is renewed. */
  leaseIsOver(): void;
}

interface Kept {
  readonly lease: RenewedLease;
  isRenewing: boolean;
}

/** Leases of one length have one timer: a job that is done soon pays for none. */
class Keeper {
  private readonly kept = new Set<Kept>();
  private readonly tickMs: number;
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly leaseMs: number) {
    this.tickMs = leaseMs / TICKS;
  }

  keep(lease: RenewedLease): () => void {
    const one = { lease, isRenewing: false };
    this.kept.add(one);
    if (!this.timer) this.timer = setInterval(() => this.tick(), this.tickMs);
    else if (this.kept.size === 1) this.timer.ref();
    return () => this.drop(one);
  }

  private tick(): void {
    const now = performance.now();
    for (const one of this.kept) {
      const leftMs = one.lease.leaseEndsAt - now;
      if (leftMs < this.tickMs) this.lose(one);
      else if (leftMs < (this.leaseMs * 2) / 3 + this.tickMs / 2 && !one.isRenewing) void this.renew(one);
    }
    if (this.kept.size > 0) return;
    clearInterval(this.timer);
    keepers.delete(this.leaseMs);
  }

  private async renew(one: Kept): Promise<void> {
    one.isRenewing = true;
    try {
      if (!(await one.lease.renew())) this.lose(one);
    } catch {
      // Not answered: the next tick tries again.
    } finally {
      one.isRenewing = false;
    }
  }

  private lose(one: Kept): void {
    if (this.drop(one)) one.lease.leaseIsOver();
  }

  private drop(one: Kept): boolean {
    const wasKept = this.kept.delete(one);
    // Nothing keeps the process alive; the next tick ends it.
    if (wasKept && this.kept.size === 0) this.timer?.unref();
    return wasKept;
  }
}

/** By the length of their leases. */
const keepers = new Map<number, Keeper>();

/**
 * Renews the lease of one job until the returned function is called. It is renewed when a third of its length is over, unless somebody prolonged it further.
 *
 * It counts as lost when Redis says so, and also when it would end unconfirmed, by this process's monotonic clock, before the next tick: rather early than after
 * another was given the job.
 */
export function keepRenewed(lease: RenewedLease): () => void {
  let keeper = keepers.get(lease.leaseMs);
  if (!keeper) keepers.set(lease.leaseMs, (keeper = new Keeper(lease.leaseMs)));
  return keeper.keep(lease);
}
