import { boolean, integer, milliseconds, waitMs, type Check } from '../atomic-redis.validation.js';

/**
 * What becomes of the key when the method throws: the error is kept and thrown again to repeated calls (`replay`), the next call runs
 * (`release`), or no call runs again (`hold`). The first caller gets the error itself in any case. `replay` keeps status and response of an
 * HttpException, name and message of another Error (thrown again as a `ReplayedError`), and the JSON value of what is no Error.
 */
export type OnError = 'replay' | 'release' | 'hold';

/** Defaults of `IdempotencyService` and `@Idempotent`, as the module's `idempotency` option. */
export interface IdempotencyModuleOptions {
  /** How long a result is kept for replay, in milliseconds. @default 86400000 (24 hours) */
  ttlMs?: number;
  /** How long a run holds its key without being heard of; renewed at a third of it, in milliseconds. @default 30000 */
  leaseMs?: number;
  /** Time for one step on Redis before the protected method is refused, in milliseconds. @default 800 */
  timeoutMs?: number;
  /** Largest result that is kept, in bytes; a larger one is returned, but a repeated call gets an error. @default 1048576 */
  maxResultBytes?: number;
  /** Refuse requests to a decorated route that have no idempotency key. @default true */
  required?: boolean;
}

export const idempotencyDefaults: Required<IdempotencyModuleOptions> = {
  ttlMs: 86_400_000,
  leaseMs: 30_000,
  timeoutMs: 800,
  maxResultBytes: 1_048_576,
  required: true,
};

export const idempotencyOptionChecks: Record<keyof IdempotencyModuleOptions, Check> = {
  ttlMs: milliseconds(),
  leaseMs: waitMs(100),
  timeoutMs: waitMs(),
  maxResultBytes: integer(0, 512 * 1_048_576),
  required: boolean,
};
