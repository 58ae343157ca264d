import { Inject, Injectable } from '@nestjs/common';
import { OPTIONS } from '../../atomic-redis.constants.js';
import { describe, InexactResultError } from '../../atomic-redis.errors.js';
import type { ResolvedOptions } from '../../atomic-redis.options.js';
import * as check from '../../atomic-redis.validation.js';
import { Observed, READ } from '../../observability/observed.decorator.js';
import { Observer } from '../../observability/observer.js';
import { Deadline } from '../../redis/deadline.js';
import { resultOf } from '../../redis/durability.js';
import {
  copyOperationOptions,
  OperationRunner,
  operationOptionChecks,
  type OperationOptions,
} from '../../redis/operation-runner.js';
import { RedisConnection } from '../../redis/redis-connection.js';
import { ScriptRunner } from '../../redis/script-runner.js';
import { WorkInFlight } from '../../redis/work-in-flight.js';
import { checkCallOptions, type CounterCallOptions } from '../counter-arguments.js';
import { assertCounter, companionsOf } from '../counter-producer.js';
import { CounterLimitError, CounterOverflowError } from '../counter.errors.js';
import { CounterService } from '../counter.service.js';
import { LIMITED, Refusal } from '../lua-counter.js';
import { untilSwept } from '../until-swept.js';
import { idOf, newHold, parseId, quantityOf } from './hold-id.js';
import { holdScript } from './hold.script.js';
import { listScript } from './list.script.js';
import { settleScript } from './settle.script.js';

export interface HoldOptions extends OperationOptions {
  /** Time that it is held unless confirmed, released or extended, in milliseconds. */
  ttlMs: number;
  /** Smallest amount that must stay available. @default 0 */
  min?: number | bigint;
}

/** What is held of a counter. */
export interface HeldQuantity {
  /** By which any process confirms, releases or extends it, so it is to be kept from others. The counter's key can be read from it. */
  readonly id: string;
  readonly quantity: number;
  /** When it is given back, in milliseconds since 1970 by Redis's clock. */
  readonly expiresAtMs: number;
}

export interface Hold extends HeldQuantity {
  /** What was left then. */
  readonly available: number;
}

const checkHoldOptions = check.options({
  ...operationOptionChecks,
  ttlMs: check.milliseconds(),
  min: check.int64,
} satisfies Record<keyof HoldOptions, check.Check>);

const checkOptions = check.options(operationOptionChecks);

/**
 * Holds on a counter's quantity that give themselves back: a cart, until it is paid for.
 *
 * The counter is what is available: a hold takes from it, and releasing the hold or its expiry gives back. Nothing has to run at
 * the time of expiry: what has expired is counted as available from that moment, and given back by the next call of this service or of
 * `CounterService` that changes the counter.
 */
@Injectable()
export class ReservationService {
  /** @internal */
  constructor(
    private readonly connection: RedisConnection,
    protected readonly observer: Observer,
    private readonly scripts: ScriptRunner,
    private readonly operations: OperationRunner,
    private readonly counters: CounterService,
    private readonly inFlight: WorkInFlight,
    @Inject(OPTIONS) private readonly options: ResolvedOptions,
  ) {
    connection.preload([holdScript, settleScript, listScript]);
  }

  /**
   * Takes a quantity off the counter until the hold is released or expires, or for good when it is confirmed.
   *
   * ```ts
   * const { id } = await reservations.hold(`inventory:{${sku}}`, 3, { ttlMs: 600_000 });
   * ```
   *
   * @throws CounterLimitError when less than `min` would be left; nothing was taken
   * @throws InvalidArgumentError before any I/O
   * @throws InexactResultError when what is left would not be exact as a number; nothing was taken
   * @throws NotAnIntegerError when the key holds something else
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was taken
   * @throws OutcomeUnknownError when it was sent and not answered in time; what it may have taken is given back after `ttlMs`
   */
  @Observed('reservations.hold')
  async hold(key: string, quantity: number, options: HoldOptions): Promise<Hold> {
    check.key('key', key);
    check.integer(1)('quantity', quantity);
    checkHoldOptions('options', options);
    check.milliseconds()('options.ttlMs', options.ttlMs);
    const { ttlMs, min = 0 } = options;
    const operation = copyOperationOptions(options);
    const hold = newHold(quantity);
    const answered = untilSwept(this.timeoutOf(options), (timeoutMs) =>
      this.operations.run(
        `Holding of counter ${describe(key)}`,
        holdScript,
        key,
        companionsOf(this.connection.keys, key),
        { hold, amount: -quantity, min, ttlMs },
        { ...operation, timeoutMs },
      ),
    );
    return await resultOf(answered, (answer): Hold => {
      assertCounter(key, answer);
      if (answer === Refusal.Overflow) throw new CounterOverflowError(key, -quantity);
      if (answer === Refusal.Inexact) throw new InexactResultError(key, 'CounterService with bigints');
      const [what, value, expiresAtMs] = answer.split(':');
      if (what === LIMITED) throw new CounterLimitError(key, Number(value), -quantity, min);
      return {
        id: idOf({ counter: key, hold }),
        quantity,
        available: Number(value),
        expiresAtMs: Number(expiresAtMs),
      };
    });
  }

  /**
   * Makes what is held stay taken.
   *
   * @returns false, and nothing changes, when there is no such hold: expired, released or confirmed before, or its counter was reset or has expired
   * @throws as {@link hold} does
   */
  @Observed('reservations.confirm', { changed: Boolean })
  async confirm(id: string, options: OperationOptions = {}): Promise<boolean> {
    return await this.settle('confirm', id, '', options);
  }

  /**
   * Gives back what is held.
   *
   * @returns false, and nothing changes, when there is no such hold: as for {@link confirm}
   * @throws CounterOverflowError when the counter was raised so far meanwhile that it cannot be given back; it stays held
   * @throws as {@link hold} does
   */
  @Observed('reservations.release', { changed: Boolean })
  async release(id: string, options: OperationOptions = {}): Promise<boolean> {
    return await this.settle('release', id, '', options);
  }

  /**
   * Holds it for `ttlMs` from now, or longer if it would be held longer already.
   *
   * @returns false, and nothing changes, when there is no such hold: as for {@link confirm}
   * @throws as {@link hold} does
   */
  @Observed('reservations.extend', { changed: Boolean })
  async extend(id: string, ttlMs: number, options: OperationOptions = {}): Promise<boolean> {
    check.milliseconds()('ttlMs', ttlMs);
    return await this.settle('extend', id, ttlMs, options);
  }

  /**
   * What is held of a counter, soonest to expire first. It reads all of it at once.
   * @throws InvalidArgumentError, RedisUnavailableError
   */
  @Observed('reservations.list', READ)
  async list(key: string, options: CounterCallOptions = {}): Promise<HeldQuantity[]> {
    check.key('key', key);
    checkCallOptions('options', options);
    const { counter, holds } = companionsOf(this.connection.keys, key);
    const deadline = Deadline.in(this.timeoutOf(options));
    const found = await this.inFlight.track(() =>
      this.scripts.run(listScript, { counter, holds }, {}, deadline),
    );
    return found.map(({ hold, expiresAtMs }) => ({
      id: idOf({ counter, hold }),
      quantity: quantityOf(hold),
      expiresAtMs,
    }));
  }

  /**
   * What can be held of a counter; 0 when there is none.
   * @throws as `CounterService.get` does
   */
  async available(key: string, options: CounterCallOptions = {}): Promise<number> {
    return (await this.counters.get(key, options)) ?? 0;
  }

  private async settle(
    action: 'confirm' | 'release' | 'extend',
    id: string,
    ttlMs: number | '',
    options: OperationOptions,
  ): Promise<boolean> {
    check.nonEmptyString('id', id);
    checkOptions('options', options);
    const operation = copyOperationOptions(options);
    const reference = parseId(id);
    if (!reference) return false;
    const { counter, holds } = companionsOf(this.connection.keys, reference.counter);
    const answered = untilSwept(this.timeoutOf(options), (timeoutMs) =>
      this.operations.run(
        `Changing a hold of counter ${describe(counter)}`,
        settleScript,
        counter,
        { counter, holds },
        { action, hold: reference.hold, ttlMs },
        { ...operation, timeoutMs },
      ),
    );
    return await resultOf(
      answered,
      (answer) => {
        assertCounter(counter, answer);
        if (answer === Refusal.Overflow) throw new CounterOverflowError(counter, quantityOf(reference.hold));
        return answer !== Refusal.Gone;
      },
      (changed) => changed,
    );
  }

  private timeoutOf({ timeoutMs = this.options.timeoutMs }: CounterCallOptions): number {
    return timeoutMs;
  }
}
