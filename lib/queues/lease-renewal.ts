/** Moments in the length of a lease at which it is looked after; it is renewed at a third of it, and tried again at each of them. */
const TICKS = 6;

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

/**
 * Renews the lease of one job until the returned function is called. It is renewed when a third of its length is over, unless somebody prolonged it further.
 *
 * It counts as lost when Redis says so, and also when it would end unconfirmed, by this process's monotonic clock, before the next tick: rather early than after
 * another was given the job.
 */
export function keepRenewed(lease: RenewedLease): () => void {
  const { leaseMs } = lease;
  const tickMs = leaseMs / TICKS;
  let isRenewing = false;
  let isOver = false;
  const stop = (): void => {
    isOver = true;
    clearInterval(timer);
  };
  const lose = (): void => {
    if (isOver) return;
    stop();
    lease.leaseIsOver();
  };
  const renewOnce = async (): Promise<void> => {
    isRenewing = true;
    try {
      if (!(await lease.renew())) lose();
    } catch {
      // Not answered: the next tick tries again.
    } finally {
      isRenewing = false;
    }
  };
  const timer = setInterval(() => {
    const leftMs = lease.leaseEndsAt - performance.now();
    if (leftMs < tickMs) lose();
    else if (leftMs < (leaseMs * 2) / 3 + tickMs / 2 && !isRenewing) void renewOnce();
  }, tickMs);
  return stop;
}
