import { Injectable } from '@nestjs/common';
import { OperationRunner } from '../operations/operation-runner.js';
import type { BinaryValue, Decoded, Encoding } from '../scripting/encoding.js';
import type { AuditHistoryOptions, AuditOptions } from './audited-hash.options.js';
import * as operation from './audited-hash.operations.js';
import type { AuditHistory } from './audit-entry.js';

export type { AuditEntry } from './audit-entry.js';
export type { AuditHistory } from './audit-entry.js';

/**
 * Changes hashes, and leaves an entry of each change in a log: field, old and new value, Redis's
 * time and the actor. Change and entry are one step, so neither exists without the other. The hash
 * is an ordinary Redis hash, the log an ordinary stream or list.
 *
 * Each call takes one round trip. It takes effect once, also if its reply is lost and the library
 * sends it again.
 */
@Injectable()
export class AuditedHashService {
  /** @internal */
  constructor(private readonly operations: OperationRunner) {}

  /**
   * Sets a field. A value that the field already holds is set, and logged, as any other.
   *
   * ```ts
   * const before = await auditedHashes.set('product:{tea}', 'price', '450', { log: 'product:{tea}:log', maxEntries: 100, actor: 'ada' });
   * ```
   *
   * @returns the value before, or null when there was none
   * @throws InvalidArgumentError, CrossSlotError, IllegalTransactionStateError before any I/O
   * @throws WrongTypeError when the hash or the log holds another type; nothing was changed
   * @throws NotAnAuditLogError when the log is a list whose newest entry this library did not
   * write; nothing was changed
   * @throws InvalidUtf8Error when the value before is not UTF-8, and `encoding` is not `buffer`;
   * the change was made
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was changed
   * @throws OutcomeUnknownError when it was sent and not answered in time; if it was not done by
   * then, it never will be
   * @throws RedisReplyError when Redis refused it, as when it is out of memory
   * @throws NotReplicatedError when it changed something, and `durability` was not reached in time;
   * `result` holds what it would have returned
   */
  set<E extends Encoding = 'utf8'>(
    key: string,
    field: string,
    value: BinaryValue,
    options: AuditOptions<E>,
  ): Promise<Decoded<E> | null> {
    return this.operations.run(operation.set, { key, field, value }, options);
  }

  /**
   * Deletes a field. If there is none, nothing is logged.
   * @returns the value before, or null when there was none
   * @throws as {@link set} does
   */
  delete<E extends Encoding = 'utf8'>(
    key: string,
    field: string,
    options: AuditOptions<E>,
  ): Promise<Decoded<E> | null> {
    return this.operations.run(operation.remove, { key, field }, options);
  }

  /**
   * Changes several fields in one step; null deletes a field. Each change has an entry of its own
   * in the log.
   * @returns the value of each field before the call, null if there was none
   * @throws as {@link set} does
   */
  update<E extends Encoding = 'utf8', Field extends string = string>(
    key: string,
    changes: Readonly<Record<Field, string | Buffer | null>>,
    options: AuditOptions<E>,
  ): Promise<Record<Field, Decoded<E> | null>> {
    return this.operations.run(operation.update, { key, changes }, options);
  }

  /**
   * Reads a log, newest entries first, page by page.
   *
   * ```ts
   * let before: string | null = null;
   * do {
   *   const page: AuditHistory = await auditedHashes.history('product:{tea}:log', { before });
   *   …
   *   before = page.next;
   * } while (before !== null);
   * ```
   *
   * @throws InvalidArgumentError before any I/O
   * @throws WrongTypeError when the key holds neither a stream nor a list
   * @throws NotAnAuditLogError for an entry that this library did not write
   * @throws InvalidUtf8Error for a value that is not UTF-8, when `encoding` is not `buffer`
   * @throws RedisUnavailableError, RedisReplyError
   */
  history<E extends Encoding = 'utf8'>(
    log: string,
    options: AuditHistoryOptions<E> = {},
  ): Promise<AuditHistory<Decoded<E>>> {
    return this.operations.run(operation.history, { log }, options);
  }
}
