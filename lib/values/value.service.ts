import { Injectable } from '@nestjs/common';
import { describe } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { Observed } from '../observability/observed.decorator.js';
import { Observer } from '../observability/observer.js';
import { resultOf } from '../redis/durability.js';
import { asReturned, type BinaryValue, type Decoded, type Encoding } from '../redis/encoding.js';
import { OperationRunner } from '../redis/operation-runner.js';
import { RedisConnection } from '../redis/redis-connection.js';
import { compareAndSwapFieldScript } from './compare-and-swap-field.script.js';
import { compareAndSwapScript } from './compare-and-swap.script.js';
import { getAndDeleteScript } from './get-and-delete.script.js';
import { getAndExpireScript } from './get-and-expire.script.js';
import { getAndSetScript } from './get-and-set.script.js';
import { Answer, type ValueAnswer } from './value-answer.js';
import {
  checkExpiry,
  checkOptions,
  checkWriteOptions,
  type Expiry,
  type ValueOptions,
  type ValueWriteOptions,
} from './value.options.js';
import {
  found,
  swapArguments,
  swapResult,
  type CompareAndDeleteResult,
  type CompareAndSetResult,
  type SwapResult,
} from './value-result.js';

export type { CompareAndDeleteResult, CompareAndSetResult } from './value-result.js';

const SWAPPED = { changed: ({ swapped }: { swapped: boolean }): boolean => swapped };
const DELETED = { changed: ({ deleted }: { deleted: boolean }): boolean => deleted };
const FOUND = { changed: (value: unknown): boolean => value !== null };

/**
 * Reads and writes of one value, as one step: an ordinary Redis string, or a field of an ordinary hash. Values are compared byte by byte.
 *
 * Each call takes one round trip and has the effect of once, also when its reply is lost and it is sent again.
 */
@Injectable()
export class ValueService {
  /** @internal */
  constructor(
    private readonly operations: OperationRunner,
    protected readonly observer: Observer,
    connection: RedisConnection,
  ) {
    connection.preload([
      compareAndSwapScript,
      compareAndSwapFieldScript,
      getAndSetScript,
      getAndDeleteScript,
      getAndExpireScript,
    ]);
  }

  /**
   * Sets the key to `next` if it holds exactly `expected`, or if `expected` is null and there is no such key; an empty string is a value.
   * Otherwise nothing changes. Either way the result says what is there; when a lost reply made it necessary to ask again, what is there then.
   *
   * ```ts
   * const { swapped, current } = await values.compareAndSet('leader', null, myId, { ttlMs: 30_000 });
   * ```
   *
   * The key keeps the time to live it has, unless `ttlMs` or `keepTtl: false` is given.
   *
   * @throws InvalidArgumentError, TransactionMisuseError before any I/O
   * @throws WrongTypeError when the key holds another type than a string
   * @throws NotTextError when what is there is no text, and `encoding` is not `buffer`; its `outcome` says whether the call took effect
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was done
   * @throws OutcomeUnknownError when it was sent and not answered in time; if it was not done by then, it never will be
   * @throws RedisReplyError when Redis refused it, as when it is out of memory
   * @throws NotReplicatedError when it changed something, and `durability` was not reached in time; `result` holds what it would have returned
   */
  @Observed('values.compareAndSet', SWAPPED)
  async compareAndSet<E extends Encoding = 'utf8'>(
    key: string,
    expected: BinaryValue | null,
    next: BinaryValue,
    options: ValueWriteOptions<E> = {},
  ): Promise<CompareAndSetResult<Decoded<E>>> {
    const ttl = checkWriteOptions('options', options);
    if (expected !== null) check.bytes('expected', expected);
    check.bytes('next', next);
    return await this.swap(key, expected, next, ttl, options, (swapped, current) => ({ swapped, current }));
  }

  /**
   * Deletes the key if it holds exactly `expected`; otherwise nothing changes. For a lock that only its holder may release, for example.
   * @throws as {@link compareAndSet} does
   */
  @Observed('values.compareAndDelete', DELETED)
  async compareAndDelete<E extends Encoding = 'utf8'>(
    key: string,
    expected: BinaryValue,
    options: ValueOptions<E> = {},
  ): Promise<CompareAndDeleteResult<Decoded<E>>> {
    checkOptions('options', options);
    check.bytes('expected', expected);
    return await this.swap(key, expected, null, '', options, (deleted, current) => ({ deleted, current }));
  }

  /**
   * As {@link compareAndSet}, for a field of the hash under `key`. The hash keeps its time to live.
   * @throws as `compareAndSet` does; WrongTypeError when the key holds another type than a hash
   */
  @Observed('values.compareAndSetField', SWAPPED)
  async compareAndSetField<E extends Encoding = 'utf8'>(
    key: string,
    field: BinaryValue,
    expected: BinaryValue | null,
    next: BinaryValue,
    options: ValueOptions<E> = {},
  ): Promise<CompareAndSetResult<Decoded<E>>> {
    if (expected !== null) check.bytes('expected', expected);
    check.bytes('next', next);
    return await this.swapField(key, field, expected, next, options, (swapped, current) => ({
      swapped,
      current,
    }));
  }

  /**
   * As {@link compareAndDelete}, for a field of the hash under `key`.
   * @throws as `compareAndSet` does; WrongTypeError when the key holds another type than a hash
   */
  @Observed('values.compareAndDeleteField', DELETED)
  async compareAndDeleteField<E extends Encoding = 'utf8'>(
    key: string,
    field: BinaryValue,
    expected: BinaryValue,
    options: ValueOptions<E> = {},
  ): Promise<CompareAndDeleteResult<Decoded<E>>> {
    check.bytes('expected', expected);
    return await this.swapField(key, field, expected, null, options, (deleted, current) => ({
      deleted,
      current,
    }));
  }

  /**
   * Sets the key to `next`, whatever it held.
   * The key keeps the time to live it has, unless `ttlMs` or `keepTtl: false` is given.
   *
   * @returns the value before, or null when there was none
   * @throws as {@link compareAndSet} does
   */
  @Observed('values.getAndSet')
  async getAndSet<E extends Encoding = 'utf8'>(
    key: string,
    next: BinaryValue,
    options: ValueWriteOptions<E> = {},
  ): Promise<Decoded<E> | null> {
    check.key('key', key);
    check.bytes('next', next);
    const ttl = checkWriteOptions('options', options);
    const answered = this.operations.run(
      `Setting ${describe(key)}`,
      getAndSetScript,
      key,
      { value: key },
      { next, ttl },
      options,
    );
    const { encoding } = options;
    return await resultOf(answered, (answer) => found(key, answer, { encoding }));
  }

  /**
   * Deletes the key. For a token that may be used once, for example: of any number of callers one gets it.
   *
   * @returns the value, or null when there was none
   * @throws as {@link compareAndSet} does
   */
  @Observed('values.getAndDelete', FOUND)
  async getAndDelete<E extends Encoding = 'utf8'>(
    key: string,
    options: ValueOptions<E> = {},
  ): Promise<Decoded<E> | null> {
    check.key('key', key);
    checkOptions('options', options);
    const answered = this.operations.run(
      `Deleting ${describe(key)}`,
      getAndDeleteScript,
      key,
      { value: key },
      {},
      options,
    );
    const { encoding } = options;
    return await resultOf(answered, (answer) => found(key, answer, { encoding }), isThere);
  }

  /**
   * Changes the time to live of the key: `{ ttlMs }` from now, `{ expireAt }` at a time of Redis's clock, or `{ persist: true }` for never.
   *
   * ```ts
   * const session = await values.getAndExpire(`session:{${id}}`, { ttlMs: 1_800_000 });
   * ```
   *
   * @returns the value, or null when there is none
   * @throws as {@link compareAndSet} does
   */
  @Observed('values.getAndExpire', FOUND)
  async getAndExpire<E extends Encoding = 'utf8'>(
    key: string,
    options: Expiry & ValueOptions<E>,
  ): Promise<Decoded<E> | null> {
    check.key('key', key);
    const expiry = checkExpiry('options', options);
    const answered = this.operations.run(
      `Expiring ${describe(key)}`,
      getAndExpireScript,
      key,
      { value: key },
      expiry,
      options,
    );
    const { encoding } = options;
    return await resultOf(answered, (answer) => found(key, answer, { encoding }), isThere);
  }

  private async swap<E extends Encoding, Result>(
    key: string,
    expected: BinaryValue | null,
    next: BinaryValue | null,
    ttl: string,
    options: ValueOptions<E>,
    toResult: SwapResult<Decoded<E>, Result>,
  ): Promise<Result> {
    check.key('key', key);
    const after = next === null ? null : asReturned('next', next, options);
    const args = { ...swapArguments(expected, next), ttl };
    const answered = this.operations.run(
      `Changing ${describe(key)}`,
      compareAndSwapScript,
      key,
      { value: key },
      args,
      options,
    );
    const { encoding } = options;
    return await resultOf(
      answered,
      (answer) => swapResult(key, answer, 'string', after, { encoding }, toResult),
      isSwap,
    );
  }

  private async swapField<E extends Encoding, Result>(
    key: string,
    field: BinaryValue,
    expected: BinaryValue | null,
    next: BinaryValue | null,
    options: ValueOptions<E>,
    toResult: SwapResult<Decoded<E>, Result>,
  ): Promise<Result> {
    check.key('key', key);
    check.bytes('field', field);
    checkOptions('options', options);
    const after = next === null ? null : asReturned('next', next, options);
    const args = { ...swapArguments(expected, next), field };
    const answered = this.operations.run(
      `Changing a field of ${describe(key)}`,
      compareAndSwapFieldScript,
      key,
      { hash: key },
      args,
      options,
    );
    const { encoding } = options;
    return await resultOf(
      answered,
      (answer) => swapResult(key, answer, 'hash', after, { encoding }, toResult),
      isSwap,
    );
  }
}

/** Whether the call changed anything, so that replicas are to have it. */
const isSwap = (_: unknown, { answer }: ValueAnswer): boolean => answer === Answer.Swapped;
const isThere = (_: unknown, { answer }: ValueAnswer): boolean => answer === Answer.Value;
