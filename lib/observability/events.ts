import { AsyncResource } from 'node:async_hooks';
import { Injectable, Logger } from '@nestjs/common';
import type { AtomicRedisEvent } from './event-types.js';

/** Receives an event. The library does not await what it returns, and logs what it throws. @inline */
export type AtomicRedisEventListener = (event: AtomicRedisEvent) => unknown;

/**
 * Emits what the services of one registration do, as it happens. Injectable by class, and as
 * `events` of the façade.
 *
 * ```ts
 * const unsubscribe = events.subscribe((event) => {
 *   if (event.type === 'idempotency.ran-unprotected') metrics.increment('unprotected', { operation: event.operation });
 * });
 * ```
 */
@Injectable()
export class AtomicRedisEvents {
  private readonly logger = new Logger(AtomicRedisEvents.name);
  private readonly listeners = new Set<AtomicRedisEventListener>();

  /**
   * Calls `listener` with every event of operations that begin from now on, outside of the call
   * that the event is about. An error that the listener throws, or rejects with, is logged and
   * changes nothing.
   *
   * @returns a function that ends the subscription
   */
  subscribe(listener: AtomicRedisEventListener): () => void {
    // A new function each time, so that one listener may subscribe twice. Bound to the context of
    // the subscription: the listener's work is no part of the call, nor of a transaction around it.
    const own = AsyncResource.bind((event: AtomicRedisEvent) => listener(event));
    this.listeners.add(own);
    return () => void this.listeners.delete(own);
  }

  /** True if there is a listener. @internal */
  get hasListeners(): boolean {
    return this.listeners.size > 0;
  }

  /** @internal */
  emit(event: AtomicRedisEvent): void {
    if (this.listeners.size === 0) return;
    Object.freeze(event);
    for (const listener of this.listeners) setImmediate(() => void this.deliver(listener, event));
  }

  private async deliver(listener: AtomicRedisEventListener, event: AtomicRedisEvent): Promise<void> {
    if (!this.listeners.has(listener)) return;
    try {
      await listener(event);
    } catch (error) {
      this.logger.error(
        `A listener threw on ${event.type}; other listeners get the event all the same`,
        error,
      );
    }
  }
}
