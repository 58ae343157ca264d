import { RedisUnavailableError } from '../atomic-redis.errors.js';
import type { KeySignals } from '../connection/key-signals.js';
import { IdempotencyCallerMismatchError, IdempotencyMismatchError } from './idempotency.errors.js';
import { mismatchOf } from './record-key.js';
import type { StoredResult } from './stored-result.js';

/** The time for which waiters trust to be woken before they ask by themselves, in milliseconds. */
const POLL_MS = 1_000;
/** Likewise, while they could not subscribe. */
const POLL_UNSUBSCRIBED_MS = 100;

/** The end of a wait: a run of its own, or the result of the run it waited for. */
export type WaitOutcome<Run> =
  { readonly kind: 'run'; readonly run: Run } | { readonly kind: 'replay'; readonly result: StoredResult };

/** A duplicate that waits. */
export interface Waiter<Run> {
  readonly fingerprint: string;
  /** Returns the error of a waiter whose time is over. */
  readonly inFlight: (leaseLeftMs: number) => Error;
  /**
   * Claims the record for this waiter, if it can be had.
   * @throws IdempotencyCallerMismatchError, IdempotencyMismatchError among others
   */
  readonly claim: () => Promise<
    WaitOutcome<Run> | { readonly kind: 'running'; readonly leaseLeftMs: number }
  >;
}

interface Waiting<Run> {
  readonly waiter: Waiter<Run>;
  readonly resolve: (outcome: WaitOutcome<Run>) => void;
  readonly reject: (error: unknown) => void;
}

interface Room<Run> {
  readonly waiting: Set<Waiting<Run>>;
  leaseLeftMs: number;
  /** Ends the present pause, or keeps the next from beginning. */
  wake: () => void;
  /** Why Redis could not be asked, the last time. */
  unavailable: RedisUnavailableError | undefined;
}

/**
 * Duplicates that wait for the run that holds their key. Those of one process and record share one
 * wait: one subscription, and one claim at a time, made for the first of them. When it gets the
 * result, so do all of its caller and payload; when it gets the key, it runs and the rest keep
 * waiting, now for it.
 */
export class DuplicateWaits<Run> {
  private readonly rooms = new Map<string, Room<Run>>();
  private closedBy: Error | undefined;

  constructor(
    private readonly signals: KeySignals,
    /** Gives back a run that was claimed for a waiter that has left meanwhile. */
    private readonly giveBack: (run: Run) => Promise<void>,
  ) {}

  /**
   * @throws IdempotencyInFlightError after `timeoutMs`; the owner of the key is left alone
   * @throws IdempotencyCallerMismatchError, IdempotencyMismatchError, IdempotencyRecordError and
   * the other errors of a claim, except that the wait continues while Redis is unreachable
   */
  async wait(
    record: string,
    waiter: Waiter<Run>,
    { leaseLeftMs, timeoutMs }: { leaseLeftMs: number; timeoutMs: number },
  ): Promise<WaitOutcome<Run>> {
    if (this.closedBy) throw this.closedBy;
    const room = this.roomOf(record, leaseLeftMs);
    const { waiting } = room;
    return await new Promise((resolve, reject) => {
      const leave = (): void => {
        clearTimeout(timer);
        waiting.delete(mine);
      };
      const mine: Waiting<Run> = {
        waiter,
        resolve: (outcome) => {
          leave();
          resolve(outcome);
        },
        reject: (error) => {
          leave();
          reject(error);
        },
      };
      const timer = setTimeout(() => {
        mine.reject(room.unavailable ?? waiter.inFlight(room.leaseLeftMs));
        if (waiting.size === 0) room.wake();
      }, timeoutMs);
      waiting.add(mine);
    });
  }

  /** Rejects all waiters with `reason`. */
  close(reason: Error): void {
    this.closedBy = reason;
    for (const room of this.rooms.values()) {
      for (const { reject } of [...room.waiting]) reject(reason);
      room.wake();
    }
    this.signals.close();
  }

  private roomOf(record: string, leaseLeftMs: number): Room<Run> {
    let room = this.rooms.get(record);
    if (!room) {
      room = { waiting: new Set(), leaseLeftMs, wake: () => undefined, unavailable: undefined };
      this.rooms.set(record, room);
      void this.serve(record, room);
    }
    return room;
  }

  /** Continues while there are waiters. Never rejects: errors go to the waiters. */
  private async serve(record: string, room: Room<Run>): Promise<void> {
    // The waiter comes in once this has given up the turn.
    await Promise.resolve();
    let unsubscribe: (() => void) | undefined;
    while (room.waiting.size > 0) {
      // From before the question is asked, so that no signal falls between the two.
      const woken = new Promise<void>((resolve) => (room.wake = resolve));
      unsubscribe ??= await this.signals
        .listen(
          record,
          (message) => {
            if (message === undefined) {
              unsubscribe?.();
              unsubscribe = undefined;
            }
            room.wake();
          },
          POLL_MS,
        )
        .catch(() => undefined);
      await this.claimForFirst(room);
      if (room.waiting.size > 0) await this.pause(room, woken, unsubscribe !== undefined);
    }
    this.rooms.delete(record);
    unsubscribe?.();
  }

  private async claimForFirst(room: Room<Run>): Promise<void> {
    const [first] = room.waiting;
    if (!first) return;
    const { fingerprint } = first.waiter;
    try {
      const found = await first.waiter.claim();
      room.unavailable = undefined;
      if (found.kind === 'running') room.leaseLeftMs = found.leaseLeftMs;
      else if (found.kind === 'replay') {
        for (const { waiter, resolve, reject } of [...room.waiting]) {
          if (waiter.fingerprint === fingerprint) resolve(found);
          else reject(mismatchOf(fingerprint, waiter.fingerprint));
        }
      } else if (room.waiting.has(first)) first.resolve(found);
      else await this.giveBack(found.run);
    } catch (error) {
      if (error instanceof RedisUnavailableError) room.unavailable = error;
      else if (error instanceof IdempotencyMismatchError || error instanceof IdempotencyCallerMismatchError) {
        for (const { waiter, reject } of [...room.waiting])
          if (waiter.fingerprint === fingerprint) reject(error);
      } else for (const { reject } of [...room.waiting]) reject(error);
    }
  }

  /** Until woken, the end of the lease, or the time to ask again. */
  private async pause(room: Room<Run>, woken: Promise<void>, subscribed: boolean): Promise<void> {
    const pollMs = subscribed ? POLL_MS : POLL_UNSUBSCRIBED_MS;
    let timer: NodeJS.Timeout | undefined;
    const passed = new Promise<void>((resolve) => {
      // A record is gone when its last millisecond has passed.
      timer = setTimeout(resolve, Math.max(10, Math.min(pollMs, room.leaseLeftMs + 1)));
    });
    await Promise.race([woken, passed]);
    clearTimeout(timer);
  }
}
