/** Moments in the length of a lease at which it is looked after; it is renewed at a third of it, and tried again at each of them. */
const TICKS = 6;

export interface RenewedLease {
  readonly leaseMs: number;
  /** Monotonic time at which it was asked for. */
  readonly askedAt: number;
  /** Resolves with whether it is still held. */
  renew: () => Promise<boolean>;
  /** Called at most once, after which nothing is renewed. */
  lost: () => void;
}

/**
 * Renews the lease of one job until the returned function is called.
 *
 * It counts as lost when Redis says so, and also when it would be unconfirmed for its whole length, by this process's monotonic clock, before the next
 * tick: rather early than after another was given the job.
 */
export function keepRenewed({ leaseMs, askedAt, renew, lost }: RenewedLease): () => void {
  const tickMs = leaseMs / TICKS;
  let confirmedAt = askedAt;
  let isRenewing = false;
  let isOver = false;
  const stop = (): void => {
    isOver = true;
    clearInterval(timer);
  };
  const lose = (): void => {
    if (isOver) return;
    stop();
    lost();
  };
  const renewOnce = async (sentAt: number): Promise<void> => {
    isRenewing = true;
    try {
      if (await renew()) confirmedAt = sentAt;
      else lose();
    } catch {
      // Not answered: the next tick tries again.
    } finally {
      isRenewing = false;
    }
  };
  const timer = setInterval(() => {
    const now = performance.now();
    const age = now - confirmedAt;
    if (age + tickMs > leaseMs) lose();
    else if (age > leaseMs / 3 - tickMs / 2 && !isRenewing) void renewOnce(now);
  }, tickMs);
  return stop;
}
