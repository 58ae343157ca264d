import { Inject, Injectable, Logger } from '@nestjs/common';
import { OPTIONS } from '../atomic-redis.constants.js';
import { AtomicRedisError, describe, OutcomeUnknownError } from '../atomic-redis.errors.js';
import type { ResolvedOptions } from '../atomic-redis.options.js';
import * as check from '../atomic-redis.validation.js';
import { Deadline } from '../redis/deadline.js';
import { RedisConnection } from '../redis/redis-connection.js';
import { ScriptRunner } from '../redis/script-runner.js';
import { assertNotRetried } from '../redis/retried-work.js';
import { WorkInFlight } from '../redis/work-in-flight.js';
import { ABSENT, applyScript, Refusal } from './apply.script.js';
import {
  checkAddOptions,
  checkCallOptions,
  checkRunOptions,
  checkWriteOptions,
  int64,
  type CounterAddOptions,
  type CounterCallOptions,
  type CounterRunOptions,
  type CounterWriteOptions,
} from './counter-arguments.js';
import { assertCounter, CounterProducer } from './counter-producer.js';
import type { OperationFields } from './counter-queue.js';
import { CounterLimitError, CounterOverflowError, InexactResultError } from './counter.errors.js';
import type { CounterResult, UndoableCount } from './counter-result.js';
import { readScript } from './read.script.js';

export type {
  CounterAddOptions,
  CounterCallOptions,
  CounterRunOptions,
  CounterWriteOptions,
} from './counter-arguments.js';
export type { CounterResult, UndoableCount } from './counter-result.js';

/**
 * Counters with bounds, exact over the whole range of a signed 64-bit integer. A counter is an ordinary Redis string; one that does
 * not exist counts as 0.
 *
 * Adds to one key made at the same time by one service share a round trip, each judged on its own and in order.
 */
@Injectable()
export class CounterService {
  private readonly logger = new Logger(CounterService.name);
  private readonly producer: CounterProducer;

  constructor(
    private readonly connection: RedisConnection,
    private readonly scripts: ScriptRunner,
    private readonly inFlight: WorkInFlight,
    @Inject(OPTIONS) private readonly options: ResolvedOptions,
  ) {
    connection.preload([applyScript, readScript]);
    this.producer = new CounterProducer(connection, scripts, options.counters);
  }

  /**
   * Adds a positive or negative amount, once, even when a reply is lost and the command is sent again.
   * At a bound it adds nothing, or with `onLimit: 'clamp'` what fits, and says so by `limited`; it does not throw for that.
   * A bound matters only where the counter moves towards it, so a value beyond one stays until an add leads it back.
   *
   * ```ts
   * const { value, applied, limited } = await counters.add(`inventory:{${sku}}`, -3, { min: 0 });
   * ```
   *
   * @throws InvalidArgumentError before any I/O
   * @throws InexactResultError when the amount is a number and the value would not be exact as one; nothing was added
   * @throws CounterOverflowError when the value would not fit into 64 bits; nothing was added
   * @throws NotAnIntegerError when the key holds something else
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was added
   * @throws OutcomeUnknownError when it was sent and not answered in time; if it was not added by then, it never will be
   */
  add(key: string, amount: number, options?: CounterAddOptions): Promise<CounterResult<number>>;
  add(key: string, amount: bigint, options?: CounterAddOptions): Promise<CounterResult<bigint>>;
  add(key: string, amount: number | bigint, options?: CounterAddOptions): Promise<CounterResult>;
  async add(key: string, amount: number | bigint, options: CounterAddOptions = {}): Promise<CounterResult> {
    return (await this.apply(key, amount, options, '')).result;
  }

  /**
   * As {@link add}, and the result can take back what was applied.
   * @throws as `add` does
   */
  addUndoable(key: string, amount: number, options?: CounterAddOptions): Promise<UndoableCount<number>>;
  addUndoable(key: string, amount: bigint, options?: CounterAddOptions): Promise<UndoableCount<bigint>>;
  addUndoable(key: string, amount: number | bigint, options?: CounterAddOptions): Promise<UndoableCount>;
  async addUndoable(
    key: string,
    amount: number | bigint,
    options: CounterAddOptions = {},
  ): Promise<UndoableCount> {
    const { result, life } = await this.apply(key, amount, options, 'u');
    const fields: OperationFields = ['undo', String(result.applied), '', '', '', life];
    let undone: Promise<boolean> | undefined;
    const undo = async (): Promise<boolean> => {
      if (BigInt(result.applied) === 0n) return true;
      const answer = await this.perform(key, fields, options);
      if (answer === Refusal.Overflow) throw new CounterOverflowError(key, -result.applied);
      return answer !== Refusal.Gone;
    };
    return {
      ...result,
      undo: () => {
        // Only one that is known to have done nothing may be made again.
        undone ??= undo().catch((error: unknown) => {
          if (error instanceof AtomicRedisError && error.outcome === 'not-applied') undone = undefined;
          throw error;
        });
        return undone;
      },
    };
  }

  /**
   * Counts, then runs `work`, and when it throws takes back exactly what was counted (`onError: 'undo'`). Not when its error says that
   * the outcome is unknown or that it was applied, and not into a counter that has expired or was reset meanwhile.
   *
   * @returns what `work` returns
   * @throws whatever `work` throws, the same instance, also when the count could not be taken back; that is logged
   * @throws CounterLimitError at a bound with `onLimit: 'reject'`; `work` does not run
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
    const { onError = 'undo', ...addOptions } = options;
    return await this.inFlight.track(async () => {
      const undoable = onError === 'undo' ? await this.addUndoable(key, amount, addOptions) : undefined;
      const count = undoable ?? (await this.add(key, amount, addOptions));
      if (count.limited && addOptions.onLimit !== 'clamp') {
        throw new CounterLimitError(key, count.value, amount, (amount < 0 ? options.min : options.max) ?? 0);
      }
      try {
        return await work(count as never);
      } catch (error) {
        if (undoable) await this.undoAfter(error, key, undoable);
        throw error;
      }
    });
  }

  /**
   * The counter's value, or null when there is none.
   *
   * @throws InexactResultError when it is beyond 2^53 - 1 either way: use {@link getBigInt}
   * @throws InvalidArgumentError, NotAnIntegerError, RedisUnavailableError
   */
  async get(key: string, options: CounterCallOptions = {}): Promise<number | null> {
    const value = await this.getBigInt(key, options);
    if (value === null) return null;
    if (!Number.isSafeInteger(Number(value))) throw new InexactResultError(key, 'getBigInt');
    return Number(value);
  }

  /** As {@link get}, exact whatever the value. */
  async getBigInt(key: string, options: CounterCallOptions = {}): Promise<bigint | null> {
    check.key('key', key);
    checkCallOptions('options', options);
    const answer = await this.inFlight.track(() =>
      this.scripts.run(readScript, { counter: key }, {}, this.deadlineOf(options)).catch((error: unknown) => {
        // A read has no outcome to be unknown.
        throw error instanceof OutcomeUnknownError ? this.connection.unavailable(error) : error;
      }),
    );
    return valueOrNull(key, answer);
  }

  /**
   * Deletes the counter. No add made before it can be undone into a counter that begins after it.
   *
   * @returns the value it had, or null when there was none
   * @throws InexactResultError when that value is beyond 2^53 - 1 either way; nothing was deleted: use {@link resetBigInt}
   * @throws as {@link add} does
   */
  async reset(key: string, options: CounterWriteOptions = {}): Promise<number | null> {
    const previous = await this.resetTo(key, options, 'n');
    return previous === null ? null : Number(previous);
  }

  /** As {@link reset}, exact whatever the value. */
  resetBigInt(key: string, options: CounterWriteOptions = {}): Promise<bigint | null> {
    return this.resetTo(key, options, '');
  }

  private async resetTo(key: string, options: CounterWriteOptions, detail: string): Promise<bigint | null> {
    check.key('key', key);
    checkWriteOptions('options', options);
    const answer = await this.perform(key, ['reset', '', '', '', '', detail], options);
    if (answer === Refusal.Inexact) throw new InexactResultError(key, 'resetBigInt');
    return valueOrNull(key, answer);
  }

  private async apply(
    key: string,
    amount: number | bigint,
    options: CounterAddOptions,
    detail: '' | 'u',
  ): Promise<{ result: CounterResult; life: string }> {
    check.key('key', key);
    int64('amount', amount);
    checkAddOptions('options', options);
    const { min = '', max = '', ttlMs = '', onLimit, ttl } = options;
    const flags = `${detail}${onLimit === 'clamp' ? 'c' : ''}${ttl === 'sliding' ? 's' : ''}${typeof amount === 'number' ? 'n' : ''}`;
    const fields = ['add', String(amount), String(min), String(max), String(ttlMs), flags] as const;
    const answer = await this.perform(key, fields, options);
    if (answer === Refusal.Overflow) throw new CounterOverflowError(key, amount);
    if (answer === Refusal.Inexact) throw new InexactResultError(key, 'a bigint amount');

    const [value = '', applied = '', limited, life = ''] = answer.split(':');
    const convert = typeof amount === 'bigint' ? BigInt : Number;
    return { result: { value: convert(value), applied: convert(applied), limited: limited === '1' }, life };
  }

  private async perform(key: string, fields: OperationFields, options: CounterWriteOptions): Promise<string> {
    assertNotRetried(`Changing counter ${describe(key)}`, options.propagation);
    return await this.inFlight.track(() => this.producer.perform(key, fields, this.deadlineOf(options)));
  }

  private async undoAfter(error: unknown, key: string, count: UndoableCount): Promise<void> {
    if (error instanceof AtomicRedisError && error.outcome !== 'not-applied') {
      const why = error.outcome === 'unknown' ? 'it is not known whether it took effect' : 'it took effect';
      this.logger.warn(
        `Counter ${describe(key)} keeps ${count.applied}: what it was counted for failed, but ${why} (${error.code})`,
      );
      return;
    }
    try {
      await count.undo();
    } catch (failure) {
      this.logger.error(
        `Counter ${describe(key)} keeps ${count.applied}, which could not be taken back`,
        (failure as Error).stack,
      );
    }
  }

  private deadlineOf({ timeoutMs = this.options.timeoutMs }: CounterCallOptions): Deadline {
    return Deadline.in(timeoutMs);
  }
}

function valueOrNull(key: string, answer: string): bigint | null {
  assertCounter(key, answer);
  return answer === ABSENT ? null : BigInt(answer);
}
