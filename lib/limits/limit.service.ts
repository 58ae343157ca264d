import { Inject, Injectable } from '@nestjs/common';
import { OPTIONS } from '../atomic-redis.constants.js';
import { OutcomeUnknownError } from '../atomic-redis.errors.js';
import type { ResolvedOptions } from '../atomic-redis.options.js';
import { RedisConnection } from '../connection/redis-connection.js';
import { Observer, READ } from '../observability/observer.js';
import { OperationRunner } from '../operations/operation-runner.js';
import {
  checkOperationOptions,
  checkQueryOptions,
  type EnforceableOptions,
  type OperationOptions,
  type QueryOptions,
  type ResolvedDefaults,
} from '../operations/operation.options.js';
import { Deadline } from '../runtime/deadline.js';
import { WorkInFlight } from '../runtime/work-in-flight.js';
import { ScriptRunner } from '../scripting/script-runner.js';
import { LimitBatches } from './limit-batch.js';
import { LimitCommands } from './limit-commands.js';
import * as operation from './limit.operations.js';
import type { LimitReservation, ReserveOptions } from './limit-reservation.js';
import { combined, type LimitResult, type LimitsResult } from './limit-result.js';
import { checkedLimit, checkedLimits, type CheckedLimit, type Limit, type LimitName } from './limit.js';
import * as reservations from './reservation.operations.js';
import { sweep } from './sweep.operations.js';
import { takeScript } from './take.script.js';
import * as throttling from './throttle.operations.js';

const NO_OPTIONS: OperationOptions = {};

const TAKEN = { changed: ({ allowed }: { readonly allowed: boolean }): boolean => allowed };

/**
 * Limits on how often something is done, exact over all processes, on Redis's clock.
 *
 * Calls that one service makes at the same time share a few round trips, and each is judged on its
 * own. Calls whose first limit has the same key are judged in their order. A limit is made by its
 * first call and expires by itself once nothing of it is used any more.
 */
@Injectable()
export class LimitService {
  private readonly commands: LimitCommands;
  private readonly defaults: ResolvedDefaults;

  /** @internal */
  constructor(
    private readonly connection: RedisConnection,
    protected readonly observer: Observer,
    scripts: ScriptRunner,
    inFlight: WorkInFlight,
    private readonly runner: OperationRunner,
    @Inject(OPTIONS) { limits, services }: ResolvedOptions,
  ) {
    this.defaults = services.limits;
    connection.preload([takeScript]);
    const batches = new LimitBatches(limits.maxBatchSize);
    this.commands = new LimitCommands(connection, scripts, inFlight, services.limits, batches);
  }

  /**
   * Takes from one limit, or from several, from all of them or from none. A call that is refused
   * takes nothing and resolves, too.
   *
   * Takes once, even when a reply is lost and the call is sent again. Several limits must share a
   * hash slot on a Cluster.
   *
   * ```ts
   * const { allowed, retryAfterMs } = await limits.take({ key: `user:${id}`, limit: 100, perMs: 60_000 });
   * const { allowed } = await limits.take([
   *   { key: `{${team}}:user:${id}`, limit: 100, perMs: 60_000 },
   *   { key: `{${team}}`, algorithm: 'sliding', limit: 10_000, perMs: 3_600_000, cost: 5 },
   * ]);
   * ```
   *
   * @throws InvalidArgumentError before any I/O
   * @throws LimitCostError before any I/O, when a cost is more than its limit ever lets through at
   * once
   * @throws CrossSlotError before any I/O, on a Cluster
   * @throws IllegalTransactionStateError inside an open transaction
   * @throws WrongTypeError when the limit's key in Redis holds something else
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was taken
   * @throws OutcomeUnknownError when it was sent and not answered in time; if it was not taken by
   * then, it never will be
   */
  take(limit: Limit, options?: OperationOptions): Promise<LimitResult>;
  take(limits: readonly Limit[], options?: OperationOptions): Promise<LimitsResult>;
  take(limits: Limit | readonly Limit[], options?: OperationOptions): Promise<LimitResult | LimitsResult>;
  take(
    limits: Limit | readonly Limit[],
    options: OperationOptions = NO_OPTIONS,
  ): Promise<LimitResult | LimitsResult> {
    return this.observer.operation('limits.take', () => this.takeFrom(limits, options), TAKEN);
  }

  private takeFrom(
    limits: Limit | readonly Limit[],
    options: OperationOptions,
  ): Promise<LimitResult | LimitsResult> {
    // An error thrown in here rejects the promise, and the call makes no other one.
    return new Promise((resolve, reject) => {
      const several = Array.isArray(limits);
      const checked = several
        ? checkedLimits(limits as readonly Limit[])
        : [checkedLimit('limit', limits as Limit)];
      if (options !== NO_OPTIONS) checkOperationOptions('options', options);
      if (several) this.commands.take(checked, options, (all) => combined(checked, all), resolve, reject);
      else this.commands.take(checked, options, ([only]) => only!, resolve, reject);
    });
  }

  /**
   * Tells how limits are, and whether a call at their costs would be let through now. Takes
   * nothing. It writes only where more than 1,000 reservations have lapsed: these it gives back.
   * @throws as {@link take} does, but for IllegalTransactionStateError and OutcomeUnknownError
   * @throws RedisReplyError where it would have to give back, and Redis refuses the write: `OOM`
   * when its memory is full, `NOPERM` for a user who may only read
   */
  peek(limit: Limit, options?: QueryOptions): Promise<LimitResult>;
  peek(limits: readonly Limit[], options?: QueryOptions): Promise<LimitsResult>;
  async peek(
    limits: Limit | readonly Limit[],
    options: QueryOptions = {},
  ): Promise<LimitResult | LimitsResult> {
    const several = Array.isArray(limits);
    const all = several ? (limits as readonly Limit[]) : [limits as Limit];
    const found = await this.observer.operation('limits.peek', () => this.peekAt(all, options), READ);
    if (several) return found;
    const { key: _, ...result } = found.limits[0]!;
    return result;
  }

  private async peekAt(given: readonly Limit[], options: QueryOptions): Promise<LimitsResult> {
    const limits = checkedLimits(given);
    checkQueryOptions('options', options);
    const deadline = Deadline.in(options.timeoutMs ?? this.defaults.timeoutMs);
    for (;;) {
      const found = await this.runner.part(operation.peek, { limits }, { deadline });
      if (found) return found;
      await this.giveBack(limits, deadline);
    }
  }

  private async giveBack(limits: readonly CheckedLimit[], deadline: Deadline): Promise<void> {
    try {
      await this.runner.part(sweep, { limits }, { deadline });
    } catch (error) {
      // A call that reads sees the same, whether lapsed reservations were given back or not.
      throw error instanceof OutcomeUnknownError ? this.connection.unavailable(error) : error;
    }
  }

  /**
   * Makes a limit unused, and voids its reservations.
   *
   * @returns false when it was unused
   * @throws as {@link take} does
   */
  reset(limit: LimitName, options: EnforceableOptions = {}): Promise<boolean> {
    return this.runner.run(operation.reset, { limit }, options);
  }

  /**
   * Takes a cost for a while, for work whose cost is known only afterwards: tokens of a language
   * model, rows of a report. The cost counts as used until the reservation is settled, or lapses
   * after `ttlMs` and gives it back. Of several limits all are reserved or none.
   *
   * ```ts
   * const reserved = await limits.reserve({ key: `tokens:${team}`, limit: 100_000, perMs: 60_000, cost: 4_000 }, { ttlMs: 120_000 });
   * if (!reserved.allowed) throw new TooManyRequests(reserved.retryAfterMs);
   * const { usage } = await model.complete(prompt);
   * await limits.settle(reserved.id, usage.total_tokens);
   * ```
   *
   * @throws as {@link take} does; what may have been reserved lapses
   */
  reserve(limits: Limit | readonly Limit[], options: ReserveOptions): Promise<LimitReservation> {
    const all = Array.isArray(limits) ? (limits as readonly Limit[]) : [limits as Limit];
    return this.runner.run(reservations.reserve, { limits: all }, options);
  }

  /**
   * Ends a reservation, and takes what the work has cost: less than was reserved, nothing, or more,
   * even beyond the limit. That counts from now on.
   *
   * @param actual the cost; for several limits one number for all, or one for each
   * @returns false, and takes nothing, when there is no such reservation: it has lapsed, was
   * settled before, or its limit was reset
   * @throws as {@link take} does
   */
  settle(id: string, actual: number | readonly number[], options: EnforceableOptions = {}): Promise<boolean> {
    return this.runner.run(reservations.settle, { id, actual }, options);
  }

  /** For `AtomicThrottlerStorage`. @internal */
  throttle(hit: Parameters<typeof throttling.throttle.check>[0]): Promise<throttling.HitResult> {
    return this.runner.part(throttling.throttle, hit, {}, this.defaults);
  }
}
