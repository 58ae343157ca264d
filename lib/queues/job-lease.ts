import { LeaseKeeper, lookMsOf, type RenewableLease } from '../leases/lease-keeper.js';

/** A job whose lease is renewed. */
export interface RenewedJob {
  readonly leaseMs: number;
  /**
   * Monotonic time at which its lease ends, as far as is confirmed. Whatever prolongs it moves
   * this.
   */
  readonly leaseEndsAt: number;
  /** The end of its delivery, done or under way. */
  readonly ending: object | undefined;
  /** True while a transaction is about to end its delivery. */
  readonly isBeingCompleted: boolean;
  /** Prolongs its lease, and moves the end. Resolves with whether it is still held. */
  renew(): Promise<boolean>;
  /** Called at most once, after which nothing is renewed. */
  leaseIsOver(): void;
}

/** A job's lease while it is renewed. */
class JobLease implements RenewableLease {
  index = -1;
  renewing: Promise<void> | undefined;
  renewals = 0;
  readonly lookMs: number;

  constructor(readonly job: RenewedJob) {
    this.lookMs = lookMsOf(job.leaseMs);
  }

  get leaseMs(): number {
    return this.job.leaseMs;
  }

  get endsAt(): number {
    return this.job.leaseEndsAt;
  }

  /** An end under way may fail; then the lease is needed again. */
  get isPaused(): boolean {
    return this.job.ending !== undefined || this.job.isBeingCompleted;
  }

  lost(): void {
    this.job.leaseIsOver();
  }
}

/** Each job is renewed by itself: one that is not answered holds up no other. */
const keeper = new LeaseKeeper<JobLease>((due) =>
  due.map(async ({ job }) => ((await job.renew()) ? 'renewed' : 'lost')),
);

/**
 * Renews the lease of a job, at a third of its length unless something prolonged it further, until
 * the returned function is called.
 */
export function keepRenewed(job: RenewedJob): () => void {
  const lease = new JobLease(job);
  keeper.keep(lease);
  return () => void keeper.letGo(lease);
}
