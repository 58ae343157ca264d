import { integer, milliseconds, options, type Check } from '../atomic-redis.validation.js';

/** Full-jitter backoff between attempts: a random delay up to a ceiling that doubles from `minMs` to `maxMs`. */
export interface BackoffOptions {
  /** @default 1 */
  minMs?: number;
  /** @default 200 */
  maxMs?: number;
}

/** Defaults of `TransactionService`, as the module's `transactions` option. */
export interface TransactionModuleOptions {
  /** Connections for transactions, to each server, at the most; further transactions wait their turn. @default 10 */
  maxConnections?: number;
  /** A connection unused this long is closed, in milliseconds. @default 30000 */
  idleTimeoutMs?: number;
  /** Attempts before a `TransactionConflictError`, the deadline permitting. @default 50 */
  maxAttempts?: number;
  /** Time for all attempts together, in milliseconds. @default 10000 */
  timeoutMs?: number;
  backoff?: BackoffOptions;
}

export const backoffDefaults: Required<BackoffOptions> = { minMs: 1, maxMs: 200 };

export const transactionDefaults: Required<TransactionModuleOptions> = {
  maxConnections: 10,
  idleTimeoutMs: 30_000,
  maxAttempts: 50,
  timeoutMs: 10_000,
  backoff: backoffDefaults,
};

export const backoffChecks: Record<keyof BackoffOptions, Check> = {
  minMs: milliseconds(0),
  maxMs: milliseconds(),
};

export const transactionOptionChecks: Record<keyof TransactionModuleOptions, Check> = {
  maxConnections: integer(1, 10_000),
  idleTimeoutMs: milliseconds(),
  maxAttempts: integer(1, 1_000_000),
  timeoutMs: milliseconds(),
  backoff: options(backoffChecks),
};
