import { LeaseLostError } from '../atomic-redis.errors.js';
import { IntrusiveSet, type SetMember } from '../runtime/intrusive-set.js';

/**
 * A right that is held in Redis for a time and prolonged while it is needed. Its holder owns its
 * end.
 */
export interface RenewableLease extends SetMember {
  /** The length that a renewal gives it, in milliseconds. */
  readonly leaseMs: number;
  /**
   * Monotonic time at which it ends, as far as Redis has confirmed. Whatever prolongs it moves
   * this.
   */
  readonly endsAt: number;
  /** Longest time between two looks of the keeper, in milliseconds. It never changes. */
  readonly lookMs: number;
  /** True while the keeper sends no renewals by itself. */
  readonly isPaused: boolean;
  /** The renewal under way; the keeper's. It never rejects. */
  renewing: Promise<void> | undefined;
  /** Renewals sent so far; the keeper's. */
  renewals: number;
  /** Returns the reason to give the lease up if it was held for too long. */
  overdue?(now: number): Error | undefined;
  /** Called at most once, after which nothing is renewed. */
  lost(reason: Error): void;
}

/** A lease whose renewals can be held back, by several at a time. */
export interface PausableLease extends RenewableLease {
  /** The number of those that hold them back; the keeper's. */
  pauses: number;
}

/** The result of one renewal; `failed` if Redis did not prolong the lease and another try may. */
export type Renewal = 'renewed' | 'lost' | 'failed';

/**
 * Sends renewals, and moves the end of each lease that Redis prolonged. Returns one promise for
 * each lease, in order; one that rejects was not answered.
 *
 * @param lengthMs the length to give, from now, in milliseconds. Default: each lease's `leaseMs`
 */
export type RenewLeases<L extends RenewableLease> = (
  due: readonly L[],
  lengthMs?: number,
) => readonly Promise<Renewal>[];

/**
 * Looks in the length of a lease. It is renewed at a third of its length, and tried again at each
 * look.
 */
const LOOKS = 6;

/** Returns the longest time between two looks at a lease of this length, in milliseconds. */
export const lookMsOf = (leaseMs: number): number => leaseMs / LOOKS;

/** Leases of about the same length: the keeper looks at all of them at once. */
interface LookGroup<L extends RenewableLease> {
  /** Time between two looks, in milliseconds. */
  readonly everyMs: number;
  readonly leases: IntrusiveSet<L>;
  /** Monotonic time of the next look; Infinity if none is planned. */
  nextAt: number;
}

/**
 * Renews leases of any length from one timer. The renewals of one look leave together.
 *
 * A lease counts as lost when Redis says so, and also when it would end unconfirmed, by this
 * process's monotonic clock, before the next look: rather early than after Redis has given the
 * right to another.
 *
 * Leases are looked at in groups by the power of two below their `lookMs`, so that a short lease
 * does not make the keeper walk over the long ones: each lease is looked at 6 to 12 times in its
 * length, whatever others there are.
 */
export class LeaseKeeper<L extends RenewableLease> {
  private readonly groups = new Map<number, LookGroup<L>>();
  private count = 0;
  private timer: NodeJS.Timeout | undefined;
  private firesAt = Infinity;
  private closedBy: Error | undefined;

  constructor(private readonly renewLeases: RenewLeases<L>) {}

  /** The number of leases that are kept. */
  get size(): number {
    return this.count;
  }

  /** Renews the lease until it is let go or lost. */
  keep(lease: L): void {
    if (this.closedBy) return lease.lost(this.closedBy);
    const group = this.groupOf(lease);
    group.leases.add(lease);
    if (++this.count === 1) this.timer?.ref();
    if (group.nextAt === Infinity) this.plan(group);
  }

  /** @returns false if the lease was not kept any more */
  letGo(lease: L): boolean {
    if (!isKept(lease)) return false;
    this.groupOf(lease).leases.delete(lease);
    // The next look stops the timer. Mostly the next lease is there before.
    if (--this.count === 0) this.timer?.unref();
    return true;
  }

  /**
   * Renews nothing any more, and tells every holder. What Redis holds stays until the leases end.
   */
  close(reason: Error): void {
    this.closedBy ??= reason;
    for (const { leases } of this.groups.values()) for (const lease of leases) this.lose(lease, reason);
    this.stopTimer();
  }

  /**
   * Makes the lease last until `until`, a monotonic time, and sends no renewal before {@link
   * resume}. Waits for a renewal under way; sends one only if the lease would end before.
   *
   * @param spare how many times what is needed to give, so that the next one that asks for a little
   * more need not send another
   * @returns true if the lease is held, and will be then
   */
  async prolongAndPause(lease: L & PausableLease, until: number, spare = 1): Promise<boolean> {
    lease.pauses++;
    // One renewal at a time: of two, the shorter could arrive last.
    while (lease.renewing) await lease.renewing;
    if (isKept(lease) && lease.endsAt < until) {
      const lengthMs = Math.max(lease.leaseMs, Math.ceil((until - performance.now()) * spare));
      const [answer] = this.renewLeases([lease], lengthMs);
      await this.heed(lease, answer!);
    }
    return isKept(lease) && lease.endsAt >= until;
  }

  /** Ends one {@link prolongAndPause}. */
  resume(lease: L & PausableLease): void {
    lease.pauses--;
  }

  private groupOf({ lookMs }: L): LookGroup<L> {
    const power = Math.max(0, 31 - Math.clz32(lookMs));
    let group = this.groups.get(power);
    if (!group)
      this.groups.set(power, (group = { everyMs: 2 ** power, leases: new IntrusiveSet(), nextAt: Infinity }));
    return group;
  }

  private plan(group: LookGroup<L>): void {
    const now = performance.now();
    group.nextAt = now + group.everyMs;
    if (group.nextAt < this.firesAt) this.setTimer(group.nextAt, now);
  }

  private setTimer(at: number, now: number): void {
    clearTimeout(this.timer);
    this.firesAt = at;
    this.timer = setTimeout(() => this.look(), Math.max(1, Math.ceil(at - now)));
  }

  private stopTimer(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.firesAt = Infinity;
  }

  /** Looks at the groups that are due, and plans the next look of each that is not empty. */
  private look(): void {
    this.stopTimer();
    const now = performance.now();
    const due: L[] = [];
    for (const group of this.groups.values()) if (group.nextAt <= now) this.lookAt(group, now, due);
    let nextAt = Infinity;
    for (const group of this.groups.values()) nextAt = Math.min(nextAt, group.nextAt);
    if (nextAt < this.firesAt) this.setTimer(nextAt, now);
    if (this.count === 0) this.timer?.unref();
    if (due.length > 0) this.renew(due);
  }

  private lookAt(group: LookGroup<L>, now: number, due: L[]): void {
    const { everyMs, leases } = group;
    group.nextAt = leases.size > 0 ? now + everyMs : Infinity;
    for (const lease of leases) {
      const { leaseMs, endsAt, isPaused, renewing } = lease;
      const overdue = lease.overdue?.(now);
      const leftMs = endsAt - now;
      if (overdue) this.lose(lease, overdue);
      else if (leftMs < everyMs) this.lose(lease, new LeaseLostError());
      else if (leftMs < (leaseMs * 2) / 3 + everyMs / 2 && !isPaused && !renewing) due.push(lease);
    }
  }

  private renew(due: readonly L[]): void {
    const answers = this.renewLeases(due);
    // Not answered: the next look tries again.
    due.forEach((lease, i) => void this.heed(lease, answers[i]!).catch(() => undefined));
  }

  private heed(lease: L, answer: Promise<Renewal>): Promise<void> {
    lease.renewals++;
    const heard = this.hear(lease, answer);
    lease.renewing = heard.catch(() => undefined);
    return heard;
  }

  private async hear(lease: L, answer: Promise<Renewal>): Promise<void> {
    try {
      if ((await answer) === 'lost') this.lose(lease, new LeaseLostError());
    } finally {
      lease.renewing = undefined;
    }
  }

  private lose(lease: L, reason: Error): void {
    if (this.letGo(lease)) lease.lost(reason);
  }
}

/** True while a keeper renews the lease. */
export const isKept = ({ index }: SetMember): boolean => index !== -1;
