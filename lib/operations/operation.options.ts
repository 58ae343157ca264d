import * as check from '../atomic-redis.validation.js';
import { checkDurability, copyDurability, type DurabilityOptions } from '../connection/durability.js';
import { checkPermit, type PermitReference } from '../leases/permit.js';
import { Propagation } from '../runtime/transaction-scope.js';

/** Options of every call that only reads. */
export interface QueryOptions {
  /** Time for the call, in milliseconds. Default: the module's `timeoutMs`. */
  timeoutMs?: number;
}

/** Options of every call that changes something by one script. */
export interface OperationOptions {
  /** Time for the call, in milliseconds. Default: the module's `timeoutMs`. */
  timeoutMs?: number;
  /**
   * Keep the answer in Redis, in a key of some 150 bytes for a minute beyond the time-out, so that the call can be sent again when its reply is lost,
   * and has the effect of once. Without it, a lost reply is an `OutcomeUnknownError` at once. @default true
   */
  deduplicate?: boolean;
  /** Inside a transaction, `outside` makes the change all the same, once for each attempt; without it the call is refused. */
  propagation?: `${Propagation.Outside}`;
  /** Wait until replicas have the change; else a `NotReplicatedError` that holds the result. Default: not waited for. */
  durability?: DurabilityOptions;
}

export const operationOptionChecks = {
  timeoutMs: check.waitMs(),
  deduplicate: check.boolean,
  propagation: check.oneOf(Propagation.Outside),
  durability: checkDurability,
} satisfies Record<keyof OperationOptions, check.Check>;

/** Options of a call that can be made under a permit. */
export interface EnforceableOptions extends OperationOptions {
  /**
   * Makes the change only while this permit is held, which Redis checks in the same step; else a `LeaseLostError`, and nothing is done.
   * `'current'` is the innermost permit that the calling code runs under. Default: no permit is asked for.
   */
  permit?: PermitReference;
}

export const enforceableOptionChecks = {
  ...operationOptionChecks,
  permit: checkPermit,
} satisfies Record<keyof EnforceableOptions, check.Check>;

/** Copies options that were checked, for a call that reads them again later. */
export const copyOperationOptions = ({
  timeoutMs,
  deduplicate,
  propagation,
  durability,
}: OperationOptions): OperationOptions => ({
  ...(timeoutMs !== undefined && { timeoutMs }),
  ...(deduplicate !== undefined && { deduplicate }),
  ...(propagation !== undefined && { propagation }),
  ...(durability && { durability: copyDurability(durability)! }),
});
