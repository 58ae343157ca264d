import type { KeySpace } from '../scripting/key-space.js';
import { randomId } from '../runtime/random-id.js';

/** Redis counts whole milliseconds: a key may live this much shorter or longer than asked for. */
const ROUNDING_MS = 2;

/** The part of a transaction's time that a key must still have to be used again. */
const WORTH_REUSING = 7 / 8;

/** When the key expires, on the scale of `performance.now()`. */
export interface Lifetime {
  /** It lives until then, at least. */
  readonly livesUntil: number;
  /** It has expired by then. */
  readonly endsBy: number;
}

/** Tells what is known of the lifetime of a key that was set between two points of local time. */
export const lifetimeOf = (sentAt: number, answeredAt: number, ttlMs: number): Lifetime => ({
  livesUntil: sentAt + ttlMs - ROUNDING_MS,
  endsBy: answeredAt + ttlMs + ROUNDING_MS,
});

/**
 * The key by which Redis refuses an EXEC that comes too late: watched while it lives, it aborts
 * EXEC once it has expired, however long the EXEC was on its way. It carries nothing but its time
 * to live. It belongs to one connection, and on a Cluster to one slot of it.
 *
 * The commit marker could not serve for it: the next transaction on the connection sets the key
 * again, behind the EXEC of the one before.
 */
export class DeadlineKey {
  private readonly id = randomId('hex');
  // The slot that it was last asked for.
  private slot = -1;
  private key = '';
  private readonly lifetimes = new Map<number, Lifetime>();
  private sets = 0;

  constructor(private readonly keys: KeySpace) {}

  keyIn(slot: number): string {
    if (slot !== this.slot) {
      this.slot = slot;
      this.key = this.keys.pinned('transaction-deadline', slot, this.id);
    }
    return this.key;
  }

  /**
   * The lifetime of the slot's key, where a transaction can rely on the key as it is: it ends no
   * later than the transaction may, and leaves it nearly all of its time.
   */
  reusableIn(slot: number, deadlineAt: number, graceMs: number, now: number): Lifetime | undefined {
    const lifetime = this.lifetimes.get(slot);
    return lifetime &&
      lifetime.endsBy <= deadlineAt &&
      lifetime.livesUntil - now >= WORTH_REUSING * (deadlineAt - graceMs - now)
      ? lifetime
      : undefined;
  }

  /** Notes that it is being set. @returns what {@link confirm} takes */
  setting(slot: number): number {
    this.lifetimes.delete(slot);
    return ++this.sets;
  }

  /** Redis may have lost it, as after a flush: the next attempt sets it again. */
  forget(slot: number): void {
    this.lifetimes.delete(slot);
  }

  /** Notes that Redis has set it, unless it is being set again. */
  confirm(slot: number, set: number, lifetime: Lifetime): void {
    if (set === this.sets) this.lifetimes.set(slot, lifetime);
  }
}
