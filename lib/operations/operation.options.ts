import * as check from '../atomic-redis.validation.js';
import { checkDurability, copyDurability, type DurabilityOptions } from '../connection/durability.js';
import { checkPermit, type PermitReference } from '../leases/permit.js';
import { Propagation } from '../runtime/transaction-scope.js';

/** Options of every call that only reads. @inline */
export interface QueryOptions {
  /** Time for the call, in milliseconds. Default: the service's `timeoutMs`, else the module's. */
  timeoutMs?: number;
}

export const checkQueryOptions = check.options({ timeoutMs: check.waitMs() } satisfies Record<
  keyof QueryOptions,
  check.Check
>);

/** Options of every call that changes something by one script. */
export interface OperationOptions {
  /** Time for the call, in milliseconds. Default: the service's `timeoutMs`, else the module's. */
  timeoutMs?: number;
  /**
   * Keep the answer in Redis, in a key of some 150 bytes, for a minute beyond the time-out. Then
   * the call can be sent again when its reply is lost, and still takes effect once. Without it, a
   * lost reply is an `OutcomeUnknownError` at once. Default: the service's, else the module's, else
   * true.
   */
  deduplicate?: boolean;
  /**
   * With `outside`, a call inside a transaction takes effect on its own, once for each attempt.
   * Default: such a call is refused.
   */
  propagation?: `${Propagation.Outside}`;
  /**
   * Wait until replicas have the change. If they do not in time, the call throws a
   * `NotReplicatedError` that holds the result. False does not wait. Default: the service's, else
   * the module's, else no wait.
   */
  durability?: DurabilityOptions | false;
}

export const operationOptionChecks = {
  timeoutMs: check.waitMs(),
  deduplicate: check.boolean,
  propagation: check.oneOf(Propagation.Outside),
  durability: checkDurability,
} satisfies Record<keyof OperationOptions, check.Check>;

export const checkOperationOptions = check.options(operationOptionChecks);

/**
 * Defaults for all calls of a service, each of which may have its own. What is absent is the
 * module's. They are not for calls that read, but for `timeoutMs`. @inline
 */
export interface ServiceDefaults extends Pick<OperationOptions, 'timeoutMs' | 'deduplicate' | 'durability'> {}

export const serviceDefaultChecks = {
  timeoutMs: check.waitMs(),
  deduplicate: check.boolean,
  durability: checkDurability,
} satisfies Record<keyof ServiceDefaults, check.Check>;

export interface ResolvedDefaults {
  readonly timeoutMs: number;
  readonly deduplicate: boolean;
  readonly durability: DurabilityOptions | undefined;
}

/** @param given a service's, of the module's options */
export const resolveDefaults = (
  given: ServiceDefaults | undefined,
  { timeoutMs, deduplicate, durability }: ResolvedDefaults,
): ResolvedDefaults => ({
  timeoutMs: given?.timeoutMs ?? timeoutMs,
  deduplicate: given?.deduplicate ?? deduplicate,
  durability: copyDurability(given?.durability ?? durability),
});

/** Options of a call that can be made under a permit. */
export interface EnforceableOptions extends OperationOptions {
  /**
   * Makes the change only while this permit is held. Redis checks that in the same step; else a
   * `LeaseLostError`, and nothing is done. `'current'` is the innermost permit that the calling
   * code runs under. Default: no permit is asked for.
   */
  permit?: PermitReference;
}

export const enforceableOptionChecks = {
  ...operationOptionChecks,
  permit: checkPermit,
} satisfies Record<keyof EnforceableOptions, check.Check>;

export const checkEnforceableOptions = check.options(enforceableOptionChecks);

/** Copies checked options, for a call that reads them again later. */
export const copyOperationOptions = ({
  timeoutMs,
  deduplicate,
  propagation,
  durability,
}: OperationOptions): OperationOptions => ({
  ...(timeoutMs !== undefined && { timeoutMs }),
  ...(deduplicate !== undefined && { deduplicate }),
  ...(propagation !== undefined && { propagation }),
  ...(durability !== undefined && { durability: durability && copyDurability(durability)! }),
});
