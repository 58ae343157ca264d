import * as check from '../atomic-redis.validation.js';
import { Propagation } from '../runtime/transaction-scope.js';

/** Defaults of permits, as the module's `permits` option. @inline */
export interface PermitModuleOptions {
  /**
   * Time after which the permit of a process that died goes to another, in milliseconds. A live
   * holder renews it at a third of this. @default 30000
   */
  leaseMs?: number;
  /** Time to wait for a permit, in milliseconds. @default 5000 */
  waitMs?: number;
  /** Time for Redis to answer, in milliseconds. Default: the module's `timeoutMs`. */
  timeoutMs?: number;
}

/** Options of `tryAcquire`. @inline */
export interface TryAcquireOptions {
  /**
   * Number of permits that are held at a time, 1 to 1000. Give the same number everywhere.
   * @default 1
   */
  limit?: number;
  /** Length of the lease, in milliseconds, from 100. Default: the module's `permits.leaseMs`. */
  leaseMs?: number;
  /** Time for Redis to answer, in milliseconds. Default: the module's `permits.timeoutMs`. */
  timeoutMs?: number;
  /**
   * Inside a transaction, `outside` acquires all the same, once for each attempt; without it the
   * call is refused.
   */
  propagation?: `${Propagation.Outside}`;
}

/** Options of `acquire` and `withPermit`. */
export interface AcquireOptions extends TryAcquireOptions {
  /**
   * Time to wait for the permit, in milliseconds; 0 for not at all. Default: the module's
   * `permits.waitMs`.
   */
  waitMs?: number;
  /** Ends the wait; the call rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** Options of `lead`. @inline */
export interface LeadOptions extends Pick<AcquireOptions, 'leaseMs' | 'timeoutMs' | 'signal'> {}

/** A shorter lease could not be renewed in time. */
const leaseMs = check.waitMs(100);

export const permitOptionChecks: Record<keyof PermitModuleOptions, check.Check> = {
  leaseMs,
  waitMs: check.waitMs(0),
  timeoutMs: check.waitMs(),
};

/** Each permit has a key of its own, and all of them go with each call. */
const MAX_LIMIT = 1_000;

const tryAcquireChecks = {
  limit: check.integer(1, MAX_LIMIT),
  leaseMs,
  timeoutMs: check.waitMs(),
  propagation: check.oneOf(Propagation.Outside),
} satisfies Record<keyof TryAcquireOptions, check.Check>;

export const acquireOptionChecks = {
  ...tryAcquireChecks,
  waitMs: check.waitMs(0),
  signal: check.instanceOf(AbortSignal),
} satisfies Record<keyof AcquireOptions, check.Check>;

export const checkTryAcquireOptions = check.options(tryAcquireChecks);
export const checkAcquireOptions = check.options(acquireOptionChecks);
export const checkLeadOptions = check.options({
  leaseMs,
  timeoutMs: check.waitMs(),
  signal: check.instanceOf(AbortSignal),
} satisfies Record<keyof LeadOptions, check.Check>);

export const permitDefaults: Required<Omit<PermitModuleOptions, 'timeoutMs'>> = {
  leaseMs: 30_000,
  waitMs: 5_000,
};
