import { InvalidArgumentError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import {
  encodingOptionChecks,
  type BinaryValue,
  type Encoding,
  type EncodingOptions,
} from '../scripting/encoding.js';
import { enforceableOptionChecks, type EnforceableOptions } from '../operations/operation.options.js';

/** Options of calls that change a hash. */
export interface AuditOptions<E extends Encoding = Encoding> extends EnforceableOptions, EncodingOptions<E> {
  /** The log's key. On a Cluster it must be in the hash's slot: give both a common hash tag. */
  log: string;
  /**
   * Type of a new log: a stream, or a list with the encoding that docs/audited-hashes.md describes.
   * @default 'stream'
   */
  logType?: 'stream' | 'list';
  /** Number of entries that the log keeps; the oldest are deleted first. @default 1000 */
  maxEntries?: number;
  /** Name of the user or program that makes the change, for the log. Default: the log has none. */
  actor?: string;
}

/** Options of calls that read a log. @inline */
export interface AuditHistoryOptions<E extends Encoding = Encoding> extends EncodingOptions<E> {
  /** Number of entries to read, 1 to 1000. @default 100 */
  limit?: number;
  /**
   * Only entries older than the one with this id: `next` of the page before. Null or absent: from
   * the newest on.
   */
  before?: string | null;
  /** Time for the call, in milliseconds. Default: the module's `timeoutMs`. */
  timeoutMs?: number;
}

/**
 * An id of either kind of log: milliseconds of Redis's clock and a number. Numbers of 19 digits fit
 * into 64 bits; no entry has 0-0.
 */
const entryIdOrNull: check.Check = (path, value) => {
  if (value === null) return;
  if (typeof value !== 'string' || !/^(?!0+-0+$)\d{1,19}-\d{1,19}$/.test(value))
    throw new InvalidArgumentError(path, 'null or the id of an entry, such as "1700000000000-0"', value);
};

const optionChecks = check.options({
  ...enforceableOptionChecks,
  ...encodingOptionChecks,
  log: check.key,
  logType: check.oneOf('stream', 'list'),
  maxEntries: check.integer(1),
  actor: check.text,
} satisfies Record<keyof AuditOptions, check.Check>);

export const checkHistoryOptions = check.options({
  ...encodingOptionChecks,
  limit: check.integer(1, 1_000),
  before: entryIdOrNull,
  timeoutMs: check.waitMs(),
} satisfies Record<keyof AuditHistoryOptions, check.Check>);

export function checkAuditOptions(key: string, options: AuditOptions): void {
  optionChecks('options', options);
  check.key('options.log', options.log);
  if (options.log === key)
    throw new InvalidArgumentError('options.log', 'another key than the hash', options.log);
}

/**
 * @returns the fields and values, read once: the caller's object may change before the reply comes
 * @throws InvalidArgumentError if `changes` is not an object of fields, a field is not a
 * well-formed string, or a value is neither bytes nor null
 */
export function checkChanges(changes: unknown): [field: string, value: BinaryValue | null][] {
  if (typeof changes !== 'object' || changes === null || Array.isArray(changes))
    throw new InvalidArgumentError('changes', 'an object of fields and values', changes);
  const entries: [string, BinaryValue | null][] = Object.entries(changes);
  if (entries.length === 0) throw new InvalidArgumentError('changes', 'at least one field', changes);
  for (const [field, value] of entries) {
    check.bytes('field', field);
    if (value !== null) check.bytes(`changes.${field}`, value);
  }
  return entries;
}
