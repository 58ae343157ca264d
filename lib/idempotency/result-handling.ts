import { IdempotencyRecordError, IdempotencyResultUnavailableError } from './idempotency.errors.js';
import type { ResultCodec } from './result-codec.js';
import { replayed, type StoredResult } from './stored-result.js';

/** Says if a repeated call needs the first one's result; see `IdempotencyOptions.result`. @inline */
export type ResultNeed = 'required' | 'optional';

/** Keeps the result of a call outside of a route, and gives it to repeated calls. */
export interface ResultHandling {
  /** Adds what is to be kept beside the result. */
  keep(result: StoredResult): StoredResult;
  /** Gives the value back, or throws what was thrown, as {@link replayed} does. */
  read(result: StoredResult, codec: ResultCodec): unknown;
}

const asItIs = (result: StoredResult): StoredResult => result;

const required: ResultHandling = { keep: asItIs, read: replayed };

/**
 * A run that is done is a success, whatever can be read of its result. One whose outcome is unknown
 * is not.
 */
const optional: ResultHandling = {
  keep: asItIs,
  read(result, codec) {
    try {
      return replayed(result, codec);
    } catch (error) {
      const isDone =
        error instanceof IdempotencyRecordError ||
        (error instanceof IdempotencyResultUnavailableError && error.outcome === 'applied');
      if (isDone) return undefined;
      throw error;
    }
  },
};

export const handlingOf = (need: ResultNeed | undefined): ResultHandling =>
  need === 'optional' ? optional : required;
