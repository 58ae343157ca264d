import { boolean, milliseconds, oneOf, type Check } from '../atomic-redis.validation.js';

/** What a call meets while the first run of its key is still going on: an error at once, or a wait for its result. */
export type OnDuplicate = 'reject' | 'wait';

/** Defaults of `IdempotencyService` and `@Idempotent`, as the module's `idempotency` option. */
export interface IdempotencyModuleOptions {
  /** How long a result is kept for replay, in milliseconds. @default 86400000 (24 hours) */
  ttlMs?: number;
  /** How long a run holds its key without being heard of; renewed at a third of it, in milliseconds. @default 30000 */
  leaseMs?: number;
  /** Time for one step on Redis before the protected method is refused, in milliseconds. @default 800 */
  timeoutMs?: number;
  /** @default 'reject' */
  onDuplicate?: OnDuplicate;
  /** How long `onDuplicate: 'wait'` waits, in milliseconds. @default 10000 */
  waitTimeoutMs?: number;
  /** Refuse requests to a decorated route that have no idempotency key. @default true */
  required?: boolean;
}

export const idempotencyDefaults: Required<IdempotencyModuleOptions> = {
  ttlMs: 86_400_000,
  leaseMs: 30_000,
  timeoutMs: 800,
  onDuplicate: 'reject',
  waitTimeoutMs: 10_000,
  required: true,
};

export const idempotencyOptionChecks: Record<keyof IdempotencyModuleOptions, Check> = {
  ttlMs: milliseconds(),
  leaseMs: milliseconds(100),
  timeoutMs: milliseconds(),
  onDuplicate: oneOf('reject', 'wait'),
  waitTimeoutMs: milliseconds(),
  required: boolean,
};
