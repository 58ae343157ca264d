import { Inject, Injectable } from '@nestjs/common';
import { OPTIONS } from '../atomic-redis.constants.js';
import { UnsafeIntegerError } from '../atomic-redis.errors.js';
import type { ResolvedOptions } from '../atomic-redis.options.js';
import * as check from '../atomic-redis.validation.js';
import { Observer, READ } from '../observability/observer.js';
import { resultOf } from '../connection/durability.js';
import type {
  EnforceableOptions,
  OperationOptions,
  QueryOptions,
  ResolvedDefaults,
} from '../operations/operation.options.js';
import { OperationRunner } from '../operations/operation-runner.js';
import { RedisConnection } from '../connection/redis-connection.js';
import { ScriptRunner } from '../scripting/script-runner.js';
import { WorkInFlight } from '../runtime/work-in-flight.js';
import { addAll, type AddedToAll } from './add-all.operations.js';
import { applyScript } from './apply.script.js';
import { runCounted } from './counted-work.js';
import {
  checkRunOptions,
  type CounterAddition,
  type CounterAddOptions,
  type CounterRunOptions,
} from './counter-arguments.js';
import { CounterCommands } from './counter-commands.js';
import { hasApplied, type CounterResult, type CountersResult, type Undoable } from './counter-result.js';
import { readScript } from './read.script.js';

const asIs = <T>(value: T): T => value;

const ADDED = { changed: hasApplied };
const ADDED_TO_ANY = {
  changed: ({ applied, counters }: CountersResult): boolean => applied && counters.some(hasApplied),
};
const RESET = { changed: (previous: number | bigint | null): boolean => previous !== null };

/**
 * Counters with bounds, exact over the whole range of a signed 64-bit integer. A counter is an
 * ordinary Redis string; one that does not exist counts as 0.
 *
 * Calls that one service gets at the same time share a few round trips, each operation judged on
 * its own, those on one counter in order.
 */
@Injectable()
export class CounterService {
  private readonly operations: CounterCommands;
  private readonly undoWindowMs: number;
  private readonly defaults: ResolvedDefaults;

  /** @internal */
  constructor(
    private readonly connection: RedisConnection,
    private readonly observer: Observer,
    scripts: ScriptRunner,
    private readonly inFlight: WorkInFlight,
    private readonly runner: OperationRunner,
    @Inject(OPTIONS) options: ResolvedOptions,
  ) {
    connection.preload([applyScript, readScript]);
    this.undoWindowMs = options.counters.undoWindowMs;
    this.defaults = options.services.counters;
    this.operations = new CounterCommands(connection, scripts, inFlight, observer, options);
  }

  /**
   * Adds a positive or negative amount, once, even when a reply is lost and the command is sent
   * again. At a bound it adds nothing, or with `onLimit: 'clamp'` what fits, and says so by
   * `limited`; it does not throw for that. A bound matters only where the counter moves towards it,
   * so a value beyond one stays until an add leads it back.
   *
   * ```ts
   * const { value, applied, limited } = await counters.add(`inventory:{${sku}}`, -3, { min: 0 });
   * ```
   *
   * @throws InvalidArgumentError before any I/O
   * @throws UnsafeIntegerError when the amount is a number and the value would not be exact as one;
   * nothing was added
   * @throws CounterOverflowError when the value would not fit into 64 bits; nothing was added
   * @throws NotAnIntegerError when the key holds something else
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was added
   * @throws OutcomeUnknownError when it was sent and not answered in time; if it was not added by
   * then, it never will be
   */
  add(key: string, amount: number, options?: CounterAddOptions): Promise<CounterResult<number>>;
  add(key: string, amount: bigint, options?: CounterAddOptions): Promise<CounterResult<bigint>>;
  add(key: string, amount: number | bigint, options?: CounterAddOptions): Promise<CounterResult>;
  add(key: string, amount: number | bigint, options: CounterAddOptions = {}): Promise<CounterResult> {
    const add = (): Promise<CounterResult> => this.operations.add(key, amount, options, '', asIs);
    return this.observer.operation('counters.add', add, ADDED);
  }

  /**
   * As {@link add}, and the result can take back what was applied.
   * @throws as `add` does
   */
  addUndoable(
    key: string,
    amount: number,
    options?: CounterAddOptions,
  ): Promise<Undoable<CounterResult<number>>>;
  addUndoable(
    key: string,
    amount: bigint,
    options?: CounterAddOptions,
  ): Promise<Undoable<CounterResult<bigint>>>;
  addUndoable(
    key: string,
    amount: number | bigint,
    options?: CounterAddOptions,
  ): Promise<Undoable<CounterResult>>;
  addUndoable(
    key: string,
    amount: number | bigint,
    options: CounterAddOptions = {},
  ): Promise<Undoable<CounterResult>> {
    const add = (): Promise<Undoable<CounterResult>> =>
      this.operations.add(key, amount, options, 'u', (added, life, operation) => ({
        ...added,
        undo: this.operations.undoOf(key, added.applied, life, operation),
      }));
    return this.observer.operation('counters.add', add, ADDED);
  }

  /**
   * Adds to several counters of one hash slot in one step, to all of them or to none: a cart of
   * articles. When one of them is at a bound, nothing is added and the result tells which; an add
   * with `onLimit: 'clamp'` keeps no other from being applied.
   *
   * ```ts
   * const { applied, counters: lines } = await counters.addAll(cart.map(({ sku, n }) => ({ key: `stock:{shop}:${sku}`, amount: -n, min: 0 })));
   * ```
   *
   * @throws InvalidArgumentError before any I/O: also for a key that is there twice, or more than
   * 512
   * @throws CrossSlotError before any I/O, on a Cluster
   * @throws as {@link add} does; nothing was added to any of them
   */
  addAll(
    adds: readonly CounterAddition<number>[],
    options?: EnforceableOptions,
  ): Promise<CountersResult<number>>;
  addAll(
    adds: readonly CounterAddition<bigint>[],
    options?: EnforceableOptions,
  ): Promise<CountersResult<bigint>>;
  addAll(adds: readonly CounterAddition[], options?: EnforceableOptions): Promise<CountersResult>;
  addAll(adds: readonly CounterAddition[], options: EnforceableOptions = {}): Promise<CountersResult> {
    const add = (): Promise<CountersResult> =>
      resultOf(this.addToAll(adds, options, ''), ({ applied, counters }) => ({ applied, counters }));
    return this.observer.operation('counters.addAll', add, ADDED_TO_ANY);
  }

  /**
   * As {@link addAll}, and the result can take back what was applied.
   * @throws as `addAll` does
   */
  addAllUndoable(
    adds: readonly CounterAddition<number>[],
    options?: EnforceableOptions,
  ): Promise<Undoable<CountersResult<number>>>;
  addAllUndoable(
    adds: readonly CounterAddition<bigint>[],
    options?: EnforceableOptions,
  ): Promise<Undoable<CountersResult<bigint>>>;
  addAllUndoable(
    adds: readonly CounterAddition[],
    options?: EnforceableOptions,
  ): Promise<Undoable<CountersResult>>;
  addAllUndoable(
    adds: readonly CounterAddition[],
    options: EnforceableOptions = {},
  ): Promise<Undoable<CountersResult>> {
    const add = (): Promise<Undoable<CountersResult>> =>
      resultOf(this.addToAll(adds, options, 'u'), (added) => this.undoable(added));
    return this.observer.operation('counters.addAll', add, ADDED_TO_ANY);
  }

  private addToAll(
    adds: readonly CounterAddition[],
    options: EnforceableOptions,
    detail: '' | 'u',
  ): Promise<AddedToAll> {
    const given = { adds, detail, lifeTtlMs: this.undoWindowMs };
    return this.runner.part(addAll, given, options, this.defaults);
  }

  private undoable({ applied, counters, lives, operation }: AddedToAll): Undoable<CountersResult> {
    const undos = counters.map((count, i) =>
      this.operations.undoOf(count.key, count.applied, lives[i]!, operation),
    );
    const undo = async (): Promise<boolean> => {
      const settled = await Promise.allSettled(undos.map((one) => one()));
      const failed = settled.find((one) => one.status === 'rejected');
      if (failed) throw failed.reason;
      return settled.every((one) => one.status === 'fulfilled' && one.value);
    };
    return { applied, counters, undo };
  }

  /**
   * Counts, then runs `work`, and when it throws takes back exactly what was counted (`onError:
   * 'undo'`). Not when its error says that the outcome is unknown or that it was applied, and not
   * into a counter that has expired or was reset meanwhile.
   *
   * @returns what `work` returns
   * @throws whatever `work` throws, the same instance, also when the count could not be taken back;
   * that is logged
   * @throws CounterLimitError at a bound with `onLimit: 'skip'`; `work` does not run
   * @throws RedisUnavailableError when replicas do not have the count in time (`durability`) and it
   * was taken back; `work` does not run
   * @throws as {@link add} does; `work` does not run
   */
  run<T>(
    key: string,
    amount: number,
    work: (count: CounterResult<number>) => T,
    options?: CounterRunOptions,
  ): Promise<Awaited<T>>;
  run<T>(
    key: string,
    amount: bigint,
    work: (count: CounterResult<bigint>) => T,
    options?: CounterRunOptions,
  ): Promise<Awaited<T>>;
  run<T>(
    key: string,
    amount: number | bigint,
    work: (count: CounterResult) => T,
    options?: CounterRunOptions,
  ): Promise<Awaited<T>>;
  async run<T>(
    key: string,
    amount: number | bigint,
    work: (count: never) => T,
    options: CounterRunOptions = {},
  ): Promise<Awaited<T>> {
    checkRunOptions('options', options);
    check.func('work', work);
    const counted = { key, amount, options };
    return await this.inFlight.track(() => runCounted(this, this.connection, counted, work));
  }

  /**
   * The counter's value, or null when there is none.
   *
   * @throws UnsafeIntegerError when it is beyond 2^53 - 1 either way: use {@link getBigInt}
   * @throws InvalidArgumentError, NotAnIntegerError, RedisUnavailableError
   */
  get(key: string, options: QueryOptions = {}): Promise<number | null> {
    return this.observer.operation(
      'counters.get',
      async () => {
        const value = await this.operations.read(key, options);
        if (value === null) return null;
        if (!Number.isSafeInteger(Number(value))) throw new UnsafeIntegerError(key, 'getBigInt');
        return Number(value);
      },
      READ,
    );
  }

  /** As {@link get}, exact whatever the value. */
  getBigInt(key: string, options: QueryOptions = {}): Promise<bigint | null> {
    return this.observer.operation('counters.get', () => this.operations.read(key, options), READ);
  }

  /**
   * Deletes the counter. No add made before it can be undone into a counter that begins after it.
   *
   * @returns the value it had, or null when there was none
   * @throws UnsafeIntegerError when that value is beyond 2^53 - 1 either way; nothing was deleted:
   * use {@link resetBigInt}
   * @throws as {@link add} does
   */
  reset(key: string, options: OperationOptions = {}): Promise<number | null> {
    return this.observer.operation(
      'counters.reset',
      async () => {
        const previous = await this.operations.reset(key, options, 'n');
        return previous === null ? null : Number(previous);
      },
      RESET,
    );
  }

  /** As {@link reset}, exact whatever the value. */
  resetBigInt(key: string, options: OperationOptions = {}): Promise<bigint | null> {
    return this.observer.operation('counters.reset', () => this.operations.reset(key, options, ''), RESET);
  }
}
