import { Inject, Injectable } from '@nestjs/common';
import { OPTIONS } from '../atomic-redis.constants.js';
import { describe, InvalidArgumentError, WrongTypeError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { Observed, READ } from '../observability/observed.decorator.js';
import { Observer } from '../observability/observer.js';
import { Deadline } from '../redis/deadline.js';
import { resultOf } from '../redis/durability.js';
import { decoded, type BinaryValue, type Decoded, type Encoding } from '../redis/encoding.js';
import { OperationRunner } from '../redis/operation-runner.js';
import { RedisConnection } from '../redis/redis-connection.js';
import { ScriptRunner } from '../redis/script-runner.js';
import { WorkInFlight } from '../redis/work-in-flight.js';
import { readListEntry, readStreamEntry, type AuditEntry } from './audit-entry.js';
import { NotAnAuditLogError } from './audited-hash.errors.js';
import {
  checkAuditOptions,
  checkChanges,
  checkHistoryOptions,
  type AuditHistoryOptions,
  type AuditOptions,
} from './audited-hash.options.js';
import { historyScript } from './history.script.js';
import { readNetstrings } from './netstrings.js';
import { UpdateRefusal, updateScript } from './update.script.js';

export type { AuditEntry } from './audit-entry.js';

/** A page of a log. `V` is a string, or with `encoding: 'buffer'` a Buffer. */
export interface AuditHistory<V extends BinaryValue = string> {
  /** Newest first. */
  readonly entries: readonly AuditEntry<V>[];
  /** `before` of the next, older page; null when there is none. */
  readonly next: string | null;
}

type Change = readonly [field: string, value: BinaryValue | null];

/** Returns false where all that was asked for is to delete fields that are not there. */
const hasChanged = (changes: readonly Change[], before: readonly unknown[]): boolean =>
  changes.some(([, value], n) => value !== null || before[n] !== null);

/**
 * Hashes whose every change leaves an entry in a log: field, old and new value, Redis's time, and who made it. Change and entry are one step:
 * neither is ever there without the other. The hash is an ordinary Redis hash, the log an ordinary stream or list.
 *
 * Each call takes one round trip and has the effect of once, also when its reply is lost and it is sent again.
 */
@Injectable()
export class AuditedHashService {
  /** @internal */
  constructor(
    private readonly operations: OperationRunner,
    protected readonly observer: Observer,
    connection: RedisConnection,
    private readonly scripts: ScriptRunner,
    private readonly inFlight: WorkInFlight,
    @Inject(OPTIONS) private readonly defaults: { readonly timeoutMs: number },
  ) {
    connection.preload([updateScript, historyScript]);
  }

  /**
   * Sets a field. What it held already is set, and logged, all the same.
   *
   * ```ts
   * const before = await auditedHashes.set('product:{tea}', 'price', '450', { log: 'product:{tea}:log', maxEntries: 100, actor: 'ada' });
   * ```
   *
   * @returns the value before, or null when there was none
   * @throws InvalidArgumentError, CrossSlotError, TransactionMisuseError before any I/O
   * @throws WrongTypeError when the hash or the log holds another type; nothing was changed
   * @throws NotAnAuditLogError when the log is a list whose newest entry this library did not write; nothing was changed
   * @throws NotTextError when the value before is no text, and `encoding` is not `buffer`; the change was made
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was changed
   * @throws OutcomeUnknownError when it was sent and not answered in time; if it was not done by then, it never will be
   * @throws RedisReplyError when Redis refused it, as when it is out of memory
   * @throws NotReplicatedError when it changed something, and `durability` was not reached in time; `result` holds what it would have returned
   */
  @Observed('auditedHashes.set')
  async set<E extends Encoding = 'utf8'>(
    key: string,
    field: string,
    value: BinaryValue,
    options: AuditOptions<E>,
  ): Promise<Decoded<E> | null> {
    check.bytes('value', value);
    checkField(field);
    return await this.change(key, { [field]: value }, options, ([before]) => before ?? null);
  }

  /**
   * Deletes a field. Where there is none, nothing is logged.
   * @returns the value before, or null when there was none
   * @throws as {@link set} does
   */
  @Observed('auditedHashes.delete', { changed: (before: unknown) => before !== null })
  async delete<E extends Encoding = 'utf8'>(
    key: string,
    field: string,
    options: AuditOptions<E>,
  ): Promise<Decoded<E> | null> {
    checkField(field);
    return await this.change(key, { [field]: null }, options, ([before]) => before ?? null);
  }

  /**
   * Changes several fields in one step; null deletes one. Each has an entry of its own in the log.
   * @returns the value before of each field, null where there was none
   * @throws as {@link set} does
   */
  async update<E extends Encoding = 'utf8', Field extends string = string>(
    key: string,
    changes: Readonly<Record<Field, BinaryValue | null>>,
    options: AuditOptions<E>,
  ): Promise<Record<Field, Decoded<E> | null>> {
    let changed = true;
    const update = (): Promise<Record<Field, Decoded<E> | null>> =>
      this.change(key, changes, options, (before, made) => {
        changed = hasChanged(made, before);
        const values = made.map(([field], n) => [field, before[n] ?? null]);
        return Object.fromEntries(values) as Record<Field, Decoded<E> | null>;
      });
    return await this.observer.operation('auditedHashes.update', update, { changed: () => changed });
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
   * @throws NotTextError for a value that is no text, when `encoding` is not `buffer`
   * @throws RedisUnavailableError, RedisReplyError
   */
  @Observed('auditedHashes.history', READ)
  async history<E extends Encoding = 'utf8'>(
    log: string,
    options: AuditHistoryOptions<E> = {},
  ): Promise<AuditHistory<Decoded<E>>> {
    check.key('log', log);
    checkHistoryOptions('options', options);
    const { limit = 100, before, timeoutMs = this.defaults.timeoutMs, encoding } = options;
    // One more than the page tells whether there is a next one.
    const read = { before: before ?? '', count: limit + 1 };
    const { kind, entries } = await this.inFlight.track(() =>
      this.scripts.run(historyScript, { log }, read, Deadline.in(timeoutMs)),
    );
    if (!['stream', 'list', 'none'].includes(kind)) throw new WrongTypeError(log, 'stream or list');
    const newestFirst = kind === 'list' ? entries.toReversed() : entries;
    const readEntry = kind === 'list' ? readListEntry : readStreamEntry;
    const page = newestFirst.slice(0, limit).map((entry) => readEntry(log, entry, { encoding }));
    return { entries: page, next: entries.length > limit ? page.at(-1)!.id : null };
  }

  /** @param toResult makes the call's result of the values before, in the order of the changes */
  private async change<E extends Encoding, Result>(
    key: string,
    changes: Readonly<Record<string, BinaryValue | null>>,
    options: AuditOptions<E>,
    toResult: (before: readonly (Decoded<E> | null)[], made: readonly Change[]) => Result,
  ): Promise<Result> {
    check.key('key', key);
    const entries = checkChanges(changes);
    checkAuditOptions(key, options);
    const { log, logType = 'stream', maxEntries = 1_000, actor, encoding } = options;
    const args = {
      logType,
      maxEntries,
      hasActor: actor === undefined ? '' : '1',
      actor: actor ?? '',
      changes: entries.flatMap(([field, value]) => [field, value === null ? 'delete' : 'set', value ?? '']),
    };
    const answered = this.operations.run(
      `Changing ${describe(key)}`,
      updateScript,
      key,
      { hash: key, log },
      args,
      options,
    );
    const valuesBefore = (answer: Buffer): (Buffer | null)[] => {
      const before = readNetstrings(answer);
      if (!before) throw refusal(answer.toString(), key, log, logType);
      return before;
    };
    return await resultOf(
      answered,
      (answer) =>
        toResult(
          valuesBefore(answer).map((value) =>
            value ? decoded(value, { encoding }, { key, outcome: 'applied' }) : null,
          ),
          entries,
        ),
      (_, answer) => hasChanged(entries, valuesBefore(answer)),
    );
  }
}

function checkField(field: unknown): void {
  if (typeof field !== 'string') throw new InvalidArgumentError('field', 'a well-formed string', field);
}

function refusal(answer: string, key: string, log: string, logType: string): Error {
  if (answer === UpdateRefusal.HashType) return new WrongTypeError(key, 'hash');
  return answer === UpdateRefusal.LogType ? new WrongTypeError(log, logType) : new NotAnAuditLogError(log);
}
