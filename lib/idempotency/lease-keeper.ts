import { LeaseLostError } from '../atomic-redis.errors.js';
import { IntrusiveSet, type SetMember } from '../runtime/intrusive-set.js';
import { RunTimeoutError } from './idempotency.errors.js';
import type { Renewal } from './renew.script.js';

/** The terms under which a run holds its key. */
export interface LeaseTerms {
  readonly record: string;
  readonly token: string;
  /** The fingerprint of caller and payload, as in the record. */
  readonly fingerprint: string;
  readonly leaseMs: number;
  /** After this long the lease is renewed no more, in milliseconds. */
  readonly maxRunMs: number;
  /** Called at most once, after which nothing is renewed. */
  readonly lost: (reason: Error) => void;
}

/** Renews leases together. Resolves with what became of each; rejects when none was answered. */
export type RenewLeases = (leases: readonly Lease[]) => Promise<readonly Renewal[]>;

/** A run's hold on its key. */
export interface Lease extends LeaseTerms, SetMember {
  /** Monotonic time at which the claim was sent. */
  readonly claimedAt: number;
  /** Monotonic time at which the last renewal that Redis confirmed was sent. */
  confirmedAt: number;
  renewing: Promise<unknown> | undefined;
  /** The length of the lease from then on, in milliseconds; `leaseMs`, unless it was prolonged. */
  lengthMs: number;
  /** The length that the next renewal gives, in milliseconds. */
  nextLengthMs: number;
  /** True if the keeper sends no renewals by itself. */
  isPaused: boolean;
  /** Renewals sent so far. */
  renewals: number;
}

/** Ticks in the length of the shortest lease; a lease is renewed at a third of it, and tried again at each tick. */
export const TICKS = 6;

/**
 * Renews the leases of all runs of one service from one timer. The renewals of a tick leave together.
 *
 * A lease counts as lost when Redis says so, and also when it would be unconfirmed for its whole length, by this process's monotonic
 * clock, before the next tick: rather early than after Redis has let it expire.
 */
export class LeaseKeeper {
  private readonly held = new IntrusiveSet<Lease>();
  private timer: NodeJS.Timeout | undefined;
  private tickMs = Infinity;
  private closedBy: Error | undefined;

  constructor(private readonly renewLeases: RenewLeases) {}

  /** @param claimedAt monotonic time at which the claim was sent */
  hold(terms: LeaseTerms, claimedAt: number): Lease {
    const { record, token, fingerprint, leaseMs, maxRunMs, lost } = terms;
    const lease: Lease = {
      record,
      token,
      fingerprint,
      leaseMs,
      maxRunMs,
      lost,
      claimedAt,
      confirmedAt: claimedAt,
      renewing: undefined,
      lengthMs: leaseMs,
      nextLengthMs: leaseMs,
      isPaused: false,
      renewals: 0,
      index: -1,
    };
    if (this.closedBy) lost(this.closedBy);
    else this.add(lease);
    return lease;
  }

  private add(lease: Lease): void {
    this.held.add(lease);
    const tickMs = Math.min(lease.leaseMs / TICKS, lease.maxRunMs);
    const isOnly = this.held.size === 1;
    if (tickMs < this.tickMs || (isOnly && tickMs !== this.tickMs)) this.startTimer(tickMs);
    else if (isOnly) this.timer?.ref();
  }

  /**
   * Stops renewing for good and tells every run. Their records stay until the leases end: a method
   * that has not settled may still write.
   */
  close(reason: Error): void {
    this.closedBy ??= reason;
    for (const lease of this.held) this.lose(lease, reason);
    this.stopTimer();
  }

  letGo(lease: Lease): void {
    this.held.delete(lease);
    // It stops at its next tick; the next run is mostly there before.
    if (this.held.size === 0) this.timer?.unref();
  }

  /**
   * Sees to it that the lease lasts until `until`, a monotonic time, and sends no renewal before {@link resume}. One that is under way is
   * waited for; one is sent only where the lease would end before.
   *
   * @returns whether the run still has the key, and will then
   */
  async prolongAndPause(lease: Lease, until: number): Promise<boolean> {
    lease.isPaused = true;
    await lease.renewing?.catch(() => undefined);
    if (isHeld(lease) && endOf(lease) < until) {
      const now = performance.now();
      lease.nextLengthMs = Math.max(lease.leaseMs, Math.ceil(until - now));
      try {
        await this.renew([lease], now);
      } finally {
        lease.nextLengthMs = lease.leaseMs;
      }
    }
    return isHeld(lease) && endOf(lease) >= until;
  }

  resume(lease: Lease): void {
    lease.isPaused = false;
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
    const due: Lease[] = [];
    for (const lease of this.held) {
      const { leaseMs, maxRunMs, isPaused, renewing } = lease;
      const leftMs = endOf(lease) - now;
      if (now - lease.claimedAt > maxRunMs) this.lose(lease, new RunTimeoutError(maxRunMs));
      else if (leftMs < this.tickMs) this.lose(lease, new LeaseLostError());
      else if (leftMs < (leaseMs * 2) / 3 + this.tickMs / 2 && !isPaused && !renewing) due.push(lease);
    }
    // Not answered: the next tick tries again.
    if (due.length > 0) this.renew(due, now).catch(() => undefined);
  }

  private async renew(due: readonly Lease[], sentAt: number): Promise<void> {
    const lengths = due.map(({ nextLengthMs }) => nextLengthMs);
    const renewing = this.renewLeases(due);
    for (const lease of due) {
      lease.renewals++;
      lease.renewing = renewing;
    }
    try {
      const answers = await renewing;
      due.forEach((lease, i) => {
        if (answers[i] === 'renewed') {
          lease.confirmedAt = sentAt;
          lease.lengthMs = lengths[i]!;
        } else if (answers[i] === 'lost') this.lose(lease, new LeaseLostError());
      });
    } finally {
      for (const lease of due) lease.renewing = undefined;
    }
  }

  private lose(lease: Lease, reason: Error): void {
    if (!isHeld(lease)) return;
    this.letGo(lease);
    lease.lost(reason);
  }
}

/** Monotonic time at which it ends, by what Redis has confirmed. */
const endOf = ({ confirmedAt, lengthMs }: Lease): number => confirmedAt + lengthMs;

/** True while the keeper renews it. */
export const isHeld = ({ index: place }: Lease): boolean => place !== -1;
