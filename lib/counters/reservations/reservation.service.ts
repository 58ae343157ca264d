import { Injectable } from '@nestjs/common';
import { OperationRunner } from '../../operations/operation-runner.js';
import type { EnforceableOptions, QueryOptions } from '../../operations/operation.options.js';
import { CounterService } from '../counter.service.js';
import type { Hold, HoldOptions } from './reservation.options.js';
import * as operation from './reservation.operations.js';

/**
 * Holds on a counter's quantity that give themselves back: a cart, until it is paid for.
 *
 * The counter is what is available: a hold takes from it, and releasing the hold or its expiry
 * gives back. Nothing has to run at the time of expiry: what has expired is counted as available
 * from that moment, and given back by the next call of this service or of `CounterService` that
 * changes the counter.
 */
@Injectable()
export class ReservationService {
  /** @internal */
  constructor(
    private readonly operations: OperationRunner,
    private readonly counters: CounterService,
  ) {}

  /**
   * Takes a quantity off the counter until the hold is released or expires, or for good when it is
   * confirmed.
   *
   * ```ts
   * const { id } = await reservations.hold(`inventory:{${sku}}`, 3, { ttlMs: 600_000 });
   * ```
   *
   * @throws CounterLimitError when less than `min` would be left; nothing was taken
   * @throws InvalidArgumentError before any I/O
   * @throws UnsafeIntegerError when what is left would not be exact as a number; nothing was taken
   * @throws NotAnIntegerError when the key holds something else
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was taken
   * @throws OutcomeUnknownError when it was sent and not answered in time; what it may have taken
   * is given back after `ttlMs`
   */
  hold(key: string, quantity: number, options: HoldOptions): Promise<Hold> {
    return this.operations.run(operation.hold, { key, quantity }, options);
  }

  /**
   * Makes what is held stay taken.
   *
   * @returns false, and nothing changes, when there is no such hold: expired, released or confirmed
   * before, or its counter was reset or has expired
   * @throws as {@link hold} does
   */
  confirm(id: string, options: EnforceableOptions = {}): Promise<boolean> {
    return this.operations.run(operation.confirm, { id }, options);
  }

  /**
   * Gives back what is held.
   *
   * @returns false, and nothing changes, when there is no such hold: as for {@link confirm}
   * @throws CounterOverflowError when the counter was raised so far meanwhile that it cannot be
   * given back; it stays held
   * @throws as {@link hold} does
   */
  release(id: string, options: EnforceableOptions = {}): Promise<boolean> {
    return this.operations.run(operation.release, { id }, options);
  }

  /**
   * Holds it for `ttlMs` from now, or longer if it would be held longer already.
   *
   * @returns false, and nothing changes, when there is no such hold: as for {@link confirm}
   * @throws as {@link hold} does
   */
  extend(id: string, ttlMs: number, options: EnforceableOptions = {}): Promise<boolean> {
    return this.operations.run(operation.extend, { id, ttlMs }, options);
  }

  /**
   * Returns the holds of a counter, soonest to expire first. It reads all of it at once.
   * @throws InvalidArgumentError, RedisUnavailableError
   */
  list(key: string, options: QueryOptions = {}): Promise<Omit<Hold, 'available'>[]> {
    return this.operations.run(operation.list, { key }, options);
  }

  /**
   * Returns the amount that can be held of a counter; 0 when there is no counter.
   * @throws as `CounterService.get` does
   */
  async available(key: string, options: QueryOptions = {}): Promise<number> {
    return (await this.counters.get(key, options)) ?? 0;
  }
}
