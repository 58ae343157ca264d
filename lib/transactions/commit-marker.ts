import type { KeySpace } from '../scripting/key-space.js';
import { randomId } from '../runtime/random-id.js';

/** The least time by which a marker outlives its transaction. */
const MARGIN_MS = 60_000;

/** The value of an armed marker, until a commit puts the number of its attempt there. */
export const ARMED = 'armed';

/**
 * The key that decides the outcome of a lost EXEC reply. It belongs to one connection: its name
 * holds a random id that is never used again. So memory grows with connections (on a Cluster: times
 * the slots they served lately), not with transactions.
 *
 * Each attempt watches it with the user's keys, and its EXEC sets it to the number of the attempt.
 * A resolver that finds another value there touches the key, and a late EXEC can no longer commit.
 * See docs/connection-loss.md.
 */
export class CommitMarker {
  private readonly id = randomId('hex');
  // The slot that it was last asked for.
  private slot = -1;
  private key = '';
  private beginning = '';
  /** Monotonic time up to which a slot's marker surely lives. */
  private readonly expiresAt = new Map<number, number>();
  private attempts = 0;

  constructor(private readonly keys: KeySpace) {}

  keyIn(slot: number): string {
    if (slot !== this.slot) {
      this.slot = slot;
      this.key = this.keys.pinned('transaction', slot, this.id);
      this.beginning = this.keys.pinned('transaction-begun', slot, this.id);
    }
    return this.key;
  }

  /**
   * A second key, set to the same value ahead of the commands, where a server does what follows a
   * refused command. The marker alone would tell of a commit there that was none: both hold the
   * value only when EXEC has done all.
   */
  beginningIn(slot: number): string {
    this.keyIn(slot);
    return this.beginning;
  }

  /** The value that the next attempt's EXEC sets; no two attempts of a connection share one. */
  nextAttempt(): string {
    return String(++this.attempts);
  }

  /**
   * Time to live for a transaction with this time-out, in milliseconds: half of it is longer than
   * the transaction.
   */
  static ttlMs(timeoutMs: number): number {
    return 2 * (timeoutMs + MARGIN_MS);
  }

  /** True if the marker is known to exist and to outlive a transaction with this time-out. */
  isArmed(slot: number, timeoutMs: number): boolean {
    return performance.now() + CommitMarker.ttlMs(timeoutMs) / 2 < (this.expiresAt.get(slot) ?? 0);
  }

  /**
   * Notes that Redis has set the marker with the given time to live.
   * @param sentAt monotonic time before it was sent
   */
  confirm(slot: number, sentAt: number, ttlMs: number): void {
    this.expiresAt.set(slot, sentAt + ttlMs);
  }
}
