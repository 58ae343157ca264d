import { Injectable } from '@nestjs/common';
import { OperationRunner } from '../operations/operation-runner.js';
import type { BinaryValue, Decoded, Encoding } from '../scripting/encoding.js';
import type { Expiry, ValueOptions, ValueWriteOptions } from './value.options.js';
import * as operation from './value.operations.js';
import type { CompareAndSetResult } from './value-result.js';

export type { CompareAndSetResult } from './value-result.js';

/**
 * Reads and writes one value as one step. The value is an ordinary Redis string, or a field of an
 * ordinary hash. Values are compared byte by byte.
 *
 * Each call takes one round trip. It takes effect once, also if its reply is lost and the library
 * sends it again.
 */
@Injectable()
export class ValueService {
  /** @internal */
  constructor(private readonly operations: OperationRunner) {}

  /**
   * Sets the key to `next` if it holds exactly `expected`, or if `expected` is null and there is no
   * such key; an empty string is a value. Otherwise nothing changes. Either way the result holds
   * the value after the call. If a reply was lost and the library asked again, it is the value at
   * that time.
   *
   * ```ts
   * const { swapped, current } = await values.compareAndSet('leader', null, myId, { ttlMs: 30_000 });
   * ```
   *
   * The key keeps the time to live it has, unless `ttlMs` or `keepTtl: false` is given.
   *
   * @throws InvalidArgumentError, IllegalTransactionStateError before any I/O
   * @throws WrongTypeError when the key holds another type than a string
   * @throws InvalidUtf8Error when the value is not UTF-8, and `encoding` is not `buffer`; its
   * `outcome` says whether the call took effect
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was done
   * @throws OutcomeUnknownError when it was sent and not answered in time; if it was not done by
   * then, it never will be
   * @throws RedisReplyError when Redis refused it, as when it is out of memory
   * @throws NotReplicatedError when it changed something, and `durability` was not reached in time;
   * `result` holds what it would have returned
   */
  compareAndSet<E extends Encoding = 'utf8'>(
    key: string,
    expected: BinaryValue | null,
    next: BinaryValue,
    options: ValueWriteOptions<E> = {},
  ): Promise<CompareAndSetResult<Decoded<E>>> {
    return this.operations.run(operation.compareAndSet, { key, expected, next }, options);
  }

  /**
   * Deletes the key if it holds exactly `expected`; otherwise nothing changes. Use it for a lock
   * that only its holder may release, for example. `deleted` says whether it was deleted; `current`
   * is the value after the call, null if there is none.
   * @throws as {@link compareAndSet} does
   */
  compareAndDelete<E extends Encoding = 'utf8'>(
    key: string,
    expected: BinaryValue,
    options: ValueOptions<E> = {},
  ): Promise<{ readonly deleted: boolean; readonly current: Decoded<E> | null }> {
    return this.operations.run(operation.compareAndDelete, { key, expected }, options);
  }

  /**
   * Does the same as {@link compareAndSet} with a field of the hash under `key`. The hash keeps its
   * time to live.
   * @throws as `compareAndSet` does; WrongTypeError when the key holds another type than a hash
   */
  compareAndSetField<E extends Encoding = 'utf8'>(
    key: string,
    field: BinaryValue,
    expected: BinaryValue | null,
    next: BinaryValue,
    options: ValueOptions<E> = {},
  ): Promise<CompareAndSetResult<Decoded<E>>> {
    return this.operations.run(operation.compareAndSetField, { key, field, expected, next }, options);
  }

  /**
   * Does the same as {@link compareAndDelete} with a field of the hash under `key`.
   * @throws as `compareAndSet` does; WrongTypeError when the key holds another type than a hash
   */
  compareAndDeleteField<E extends Encoding = 'utf8'>(
    key: string,
    field: BinaryValue,
    expected: BinaryValue,
    options: ValueOptions<E> = {},
  ): Promise<{ readonly deleted: boolean; readonly current: Decoded<E> | null }> {
    return this.operations.run(operation.compareAndDeleteField, { key, field, expected }, options);
  }

  /**
   * Sets the key to `next`, whatever it held.
   * The key keeps the time to live it has, unless `ttlMs` or `keepTtl: false` is given.
   *
   * @returns the value before, or null when there was none
   * @throws as {@link compareAndSet} does
   */
  getAndSet<E extends Encoding = 'utf8'>(
    key: string,
    next: BinaryValue,
    options: ValueWriteOptions<E> = {},
  ): Promise<Decoded<E> | null> {
    return this.operations.run(operation.getAndSet, { key, next }, options);
  }

  /**
   * Deletes the key. Use it for a token that may be used once, for example: of any number of
   * callers, one gets it.
   *
   * @returns the value, or null when there was none
   * @throws as {@link compareAndSet} does
   */
  getAndDelete<E extends Encoding = 'utf8'>(
    key: string,
    options: ValueOptions<E> = {},
  ): Promise<Decoded<E> | null> {
    return this.operations.run(operation.getAndDelete, { key }, options);
  }

  /**
   * Changes the time to live of the key: `{ ttlMs }` from now, `{ expireAt }` at a time of Redis's
   * clock, or `{ persist: true }` for never.
   *
   * ```ts
   * const session = await values.getAndExpire(`session:{${id}}`, { ttlMs: 1_800_000 });
   * ```
   *
   * @returns the value, or null when there is none
   * @throws as {@link compareAndSet} does
   */
  getAndExpire<E extends Encoding = 'utf8'>(
    key: string,
    options: Expiry & ValueOptions<E>,
  ): Promise<Decoded<E> | null> {
    return this.operations.run(operation.getAndExpire, { key }, options);
  }
}
