import * as check from '../atomic-redis.validation.js';
import { Propagation } from '../runtime/transaction-scope.js';
import type { ResultNeed } from './result-handling.js';
import { idempotencyDefaultChecks, type IdempotencyDefaults, type OnError } from './idempotency.options.js';

/** Identifies a record. @inline */
export interface IdempotencyKeyOptions {
  /** Separates equal keys of different tenants or users. @default '' */
  scope?: string;
  /**
   * Separates equal keys of different operations: `orders.create`. Without it the key itself must
   * name what is done: two works with one key and no operation are one call. `@Idempotent` requires
   * it outside routes. @default ''
   */
  operation?: string;
  /**
   * On a Cluster: a key whose hash slot the record is put into, so that a transaction on that slot
   * can commit the run (`completesRun`). Only what is fixed for the idempotency key may decide it
   * (a path, a principal), never the payload: the same key with another payload would look for its
   * record elsewhere.
   */
  colocateWith?: string;
}

/** Options of `IdempotencyService.run`. */
export interface IdempotencyOptions extends IdempotencyKeyOptions, IdempotencyDefaults {
  /**
   * Evidence of the caller that is no name of it, such as a credential that is renewed. The same
   * key with other evidence is an `IdempotencyCallerMismatchError`. Kept as a hash. Over HTTP,
   * `callerEvidence(request)`. @default ''
   */
  evidence?: string;
  /**
   * The payload, or a value that differs where the payload does: the same key with another one is
   * an `IdempotencyMismatchError`. Made of JSON values, bytes (`Buffer`, `Uint8Array`), bigints,
   * dates (as their ISO strings) and objects with a `toJSON`; properties that are undefined do not
   * count. Default: not compared.
   */
  fingerprint?: unknown;
  /**
   * Fate of the key when the work throws. Default, also when a callback itself throws: `hold` for
   * an error whose outcome is unknown or applied, `replay` for an HttpException with a 4xx status,
   * else `release`.
   */
  onError?: OnError | ((error: unknown) => OnError);
  /**
   * Need of a repeated call for the result. `required`: when the first run is done and its result
   * was not kept, a repeated call throws an `IdempotencyResultUnavailableError`. `optional`: it
   * succeeds with undefined, and the default of `onError` keeps no error, since no caller takes it
   * for an answer. On a route only `required` has a meaning. Default: `optional` for methods that
   * return to no caller (`@EventPattern`, `@QueueConsumer`, a BullMQ processor, `@Cron`,
   * `@OnEvent`, `@RabbitSubscribe`), else `required`.
   */
  result?: ResultNeed;
  /**
   * Inside a transaction, `outside` makes the run all the same, by each attempt; without it the
   * call is refused.
   */
  propagation?: `${Propagation.Outside}`;
}

export const keyChecks = {
  scope: stringOfAnyLength,
  operation: stringOfAnyLength,
  colocateWith: check.key,
} satisfies Record<keyof IdempotencyKeyOptions, check.Check>;

export const idempotencyCallChecks = {
  ...keyChecks,
  ...idempotencyDefaultChecks,
  evidence: stringOfAnyLength,
  fingerprint: () => undefined,
  onError: check.either(
    '"replay", "release", "hold" or a function',
    check.oneOf('replay', 'release', 'hold'),
    check.func,
  ),
  result: check.oneOf('required', 'optional'),
  propagation: check.oneOf(Propagation.Outside),
} satisfies Record<keyof IdempotencyOptions, check.Check>;

export const checkCallOptions: check.Check = check.options(idempotencyCallChecks);
export const checkKeyOptions: check.Check = check.options(keyChecks);

function stringOfAnyLength(path: string, value: unknown): void {
  if (value !== '') check.nonEmptyString(path, value);
}
