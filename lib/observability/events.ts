import { AsyncResource } from 'node:async_hooks';
import { Injectable, Logger } from '@nestjs/common';
import type { AtomicRedisEvent } from './event-types.js';

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
   * Calls `listener` with every event of what begins from now on, outside of the call that the event is about. What it throws, or its promise rejects with, is logged and changes
   * nothing.
   *
   * @returns what ends the subscription
   */
  subscribe(listener: AtomicRedisEventListener): () => void {
    // A subscription of its own, also for a listener that subscribes twice. What it does is no part of the call, nor of a transaction around that.
    const own = AsyncResource.bind((event: AtomicRedisEvent) => listener(event));
    this.listeners.add(own);
    return () => void this.listeners.delete(own);
  }

  /** Whether anybody listens. @internal */
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
      this.logger.error(`A listener to ${event.type} failed`, error);
    }
  }
}
