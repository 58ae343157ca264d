import type { RedisConnection } from '../connection/redis-connection.js';
import { copyDurability, type DurabilityOptions } from '../connection/durability.js';
import type { ObservedCall } from '../observability/observer.js';
import type { OnAbandoned } from './abandoned.options.js';
import { fingerprintOf } from './fingerprint.js';
import type { IdempotencyOptions } from './idempotency-call.options.js';
import type { ResolvedIdempotencyOptions } from './idempotency.options.js';
import { identityOf, recordId, recordOf } from './record-key.js';
import type { ResultCodec } from './result-codec.js';

/** One call for a key, with the module's defaults where the call has no option of its own. */
export interface ClaimRequest {
  /** The call, as events name it. */
  readonly observed: ObservedCall;
  /** The key in Redis. */
  readonly record: string;
  /** For events. */
  readonly operation: string;
  /**
   * The identity that a call must share with the first one beside its key, as `identityOf` makes
   * it.
   */
  readonly fingerprint: string;
  readonly ttlMs: number;
  readonly leaseMs: number;
  readonly maxRunMs: number;
  readonly maxAttempts: number;
  readonly onAbandoned: OnAbandoned;
  /** For one step on Redis, in milliseconds. */
  readonly timeoutMs: number;
  readonly onDuplicate: 'refuse' | 'wait';
  readonly waitTimeoutMs: number;
  readonly onUnavailable: 'refuse' | 'run';
  readonly codec: ResultCodec;
  readonly durability: DurabilityOptions | undefined;
}

/** @throws InvalidArgumentError for a fingerprint of which JSON would drop a part */
export function claimRequestOf(
  key: string,
  options: IdempotencyOptions,
  observed: ObservedCall,
  connection: RedisConnection,
  defaults: ResolvedIdempotencyOptions,
): ClaimRequest {
  const { scope = '', operation = '', evidence = '', fingerprint } = options;
  const id = recordId(scope, operation, key);
  const payload = fingerprint === undefined ? '' : fingerprintOf(fingerprint);
  return {
    observed,
    record: recordOf(connection, id, options),
    operation,
    fingerprint: identityOf(id, evidence, payload),
    ttlMs: options.ttlMs ?? defaults.ttlMs,
    leaseMs: options.leaseMs ?? defaults.leaseMs,
    maxRunMs: options.maxRunMs ?? defaults.maxRunMs,
    maxAttempts: options.maxAttempts ?? defaults.maxAttempts,
    onAbandoned: options.onAbandoned ?? defaults.onAbandoned,
    timeoutMs: options.timeoutMs ?? defaults.timeoutMs,
    onDuplicate: options.onDuplicate ?? defaults.onDuplicate,
    waitTimeoutMs: options.waitTimeoutMs ?? defaults.waitTimeoutMs,
    onUnavailable: options.onUnavailable ?? defaults.onUnavailable,
    codec: options.codec ?? defaults.codec,
    durability: copyDurability(options.durability ?? defaults.durability),
  };
}
