import { InvalidArgumentError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { copyDurability } from '../connection/durability.js';
import { operationOptionChecks, type OperationOptions } from '../operations/operation.options.js';
import { SHADOW_TYPES } from './shadow-type.js';

/** Options of `ShadowKeyService.replace` and `replaceAll`. */
export interface ReplaceOptions extends Pick<OperationOptions, 'timeoutMs' | 'propagation' | 'durability'> {
  /**
   * Time for each step, in milliseconds: connecting, the reply to a chunk, and the swap. Only
   * `signal` limits a build as a whole. Default: the module's `timeoutMs`.
   */
  timeoutMs?: number;
  /** Time to live of the new value, in milliseconds. Default: none, whatever the old value had. */
  ttlMs?: number;
  /**
   * When the source writes nothing: `refuse` throws a `ShadowEmptyError`, `delete` deletes the live
   * key. @default 'refuse'
   */
  onEmpty?: 'refuse' | 'delete';
  /**
   * Version of the new value, from 0 to 2^63 - 1. It is not swapped in if a newer one was before.
   * The version is kept as long as the live key. If that has no time to live, or the swap deleted
   * it, the version is kept for a week after the last swap. Default: the last swap wins.
   */
  version?: number | bigint;
  /**
   * Keep the replaced value, with the rest of its time to live, for `rollback`, until the next
   * swap. @default false
   */
  keepPrevious?: boolean;
  /**
   * The way in which the new value takes its place. `rename` moves it at once, whatever its size.
   * `copy` copies it: Redis is busy for that long, and the shadow stays under the name in the
   * result until `shadowTtlMs` is over.
   * @default 'rename'
   */
  mode?: 'rename' | 'copy';
  /**
   * Redis type that an iterable or an object becomes. A function decides by its own writes.
   * @default 'hash'
   */
  type?: 'string' | 'list' | 'set' | 'zset' | 'hash' | 'stream';
  /**
   * Time to live of the shadow while it is built, in milliseconds. The build renews it, so it
   * bounds what a crashed process leaves behind. @default 60000
   */
  shadowTtlMs?: number;
  /**
   * Called after each confirmed chunk, with the amount that Redis has confirmed so far (fields,
   * elements, members or entries; bytes for a string) and the time since the call, in milliseconds.
   * An error that it throws ends the build and reaches the caller. A promise is not awaited, and
   * its rejection is logged.
   */
  onProgress?: (progress: { readonly written: number; readonly elapsedMs: number }) => unknown;
  /**
   * Ends the build, unless the swap was already sent; the call rejects with the signal's reason.
   */
  signal?: AbortSignal;
}

const MAX_VERSION = 2n ** 63n - 1n;

const version: check.Check = (path, value) => {
  const fits =
    typeof value === 'bigint'
      ? value >= 0n && value <= MAX_VERSION
      : Number.isSafeInteger(value) && Number(value) >= 0;
  if (!fits) throw new InvalidArgumentError(path, 'a safe integer or a bigint, from 0 to 2^63 - 1', value);
};

const { deduplicate: _, ...commonOptionChecks } = operationOptionChecks;

export const checkReplaceOptions = check.options({
  ...commonOptionChecks,
  ttlMs: check.milliseconds(),
  onEmpty: check.oneOf('refuse', 'delete'),
  version,
  keepPrevious: check.boolean,
  mode: check.oneOf('rename', 'copy'),
  type: check.oneOf(...SHADOW_TYPES),
  shadowTtlMs: check.integer(1_000, 2 ** 31 - 1),
  onProgress: check.func,
  signal: check.instanceOf(AbortSignal),
} satisfies Record<keyof ReplaceOptions, check.Check>);

/** Copies checked options, which are read again when the build is done. */
export const copyReplaceOptions = (given: ReplaceOptions): ReplaceOptions => ({
  ...given,
  ...(given.durability && { durability: copyDurability(given.durability)! }),
});
