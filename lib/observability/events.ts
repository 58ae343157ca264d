import { Injectable, Logger } from '@nestjs/common';

/** What became of one call under an idempotency key. Never holds the key itself. */
interface IdempotencyEvent {
  /** Which method it was: `orders.create`. Empty for calls of `IdempotencyService.run` that name none. */
  readonly operation: string;
  /** The key in Redis: a hash of scope, operation and idempotency key. */
  readonly record: string;
}

/** The end of a run that had claimed its key. Exactly one for each. */
export interface IdempotencyRunEvent extends IdempotencyEvent {
  readonly type: 'idempotency.run';
  /**
   * - `completed`: its result is kept for replay
   * - `held`: it is kept that it ran, without a result
   * - `released`: it failed and gave its key back
   * - `stale`: it had lost its key to another run, and changed nothing of that one's
   * - `unrecorded`: Redis could not be told in time; the key is taken until the lease ends
   */
  readonly outcome: 'completed' | 'held' | 'released' | 'stale' | 'unrecorded';
  /** From the claim to the end, in milliseconds. */
  readonly durationMs: number;
  /** False when the replicas asked for by `durability` did not have the result in time. */
  readonly replicated: boolean;
}

/** A call that found its key taken. Exactly one for each. */
export interface IdempotencyDuplicateEvent extends IdempotencyEvent {
  readonly type: 'idempotency.duplicate';
  /**
   * - `replayed`: it was given the first call's result, or the answer that there is none to give
   * - `in-flight`: refused, since the first call is running
   * - `mismatch`: refused, since its payload is another one
   * - `failed`: the result could not be read, or Redis or the module went away while it waited
   */
  readonly outcome: 'replayed' | 'in-flight' | 'mismatch' | 'failed';
  /** How long it waited for the first call, in milliseconds; 0 when it did not. */
  readonly waitedMs: number;
  /** Whether the answer came from this process's own cache. */
  readonly cached: boolean;
}

/** Redis could not be reached, and the method ran without protection, since `onUnavailable` is `'run'`. */
export interface IdempotencyUnprotectedEvent extends IdempotencyEvent {
  readonly type: 'idempotency.unprotected';
}

/** Told apart by `type`. */
export type AtomicRedisEvent = IdempotencyRunEvent | IdempotencyDuplicateEvent | IdempotencyUnprotectedEvent;

/** What it returns is not waited for; what it throws is logged. */
export type AtomicRedisEventListener = (event: AtomicRedisEvent) => unknown;

/**
 * Tells what the services of one registration do, as it happens. Injectable by class, and as `events` of the façade.
 *
 * ```ts
 * const unsubscribe = events.subscribe((event) => {
 *   if (event.type === 'idempotency.unprotected') metrics.increment('unprotected', { operation: event.operation });
 * });
 * ```
 */
@Injectable()
export class AtomicRedisEvents {
  private readonly logger = new Logger(AtomicRedisEvents.name);
  private readonly listeners = new Set<AtomicRedisEventListener>();

  /**
   * Calls `listener` with every event from now on, outside of the call that the event is about. What it throws, or its promise rejects with, is logged and changes
   * nothing.
   *
   * @returns what ends the subscription
   */
  subscribe(listener: AtomicRedisEventListener): () => void {
    // A subscription of its own, also for a listener that subscribes twice.
    const own: AtomicRedisEventListener = (event) => listener(event);
    this.listeners.add(own);
    return () => void this.listeners.delete(own);
  }

  /** For the services. `make` is called only when somebody listens. */
  emit(make: () => AtomicRedisEvent): void {
    if (this.listeners.size === 0) return;
    const event = Object.freeze(make());
    for (const listener of this.listeners) setImmediate(() => void this.deliver(listener, event));
  }

  private async deliver(listener: AtomicRedisEventListener, event: AtomicRedisEvent): Promise<void> {
    if (!this.listeners.has(listener)) return;
    try {
      await listener(event);
    } catch (error) {
      this.logger.error(`A listener to ${event.type} failed`, error);
    }
  }
}
