import type { Operation } from '../observability/observer.js';
import type { DurabilityOptions } from '../connection/durability.js';
import type { ResultCodec } from './result-codec.js';
import type { StoredResult } from './stored-result.js';

/** The part of its run that an idempotent method may see. */
export interface IdempotentRun {
  /**
   * Aborts when the run can no longer count on its key, so that another call may run: with a `LeaseLostError` when the lease was lost, with a
   * `RunTimeoutError` after `maxRunMs`, with a `ModuleClosedError` when the module was closed and the lease is renewed no more.
   */
  readonly signal: AbortSignal;
}

/** A run that has claimed its key, and how it ends: exactly one of `complete` and `release`. */
export interface ClaimedRun extends IdempotentRun {
  /** Runs the method as part of this run, so that a transaction inside can commit it. */
  within<T>(method: () => Promise<T> | T): Promise<T>;
  /**
   * Stores the result for replay. When Redis does not confirm in time, goes on trying while the lease lives.
   * Never rejects: the caller is owed the result, whether or not it could be stored.
   */
  complete(result: StoredResult): Promise<void>;
  /** Gives the key back, so that the next call runs. Never rejects. */
  release(): Promise<void>;
  /** Like `release`, for a run that never began because its caller has left: emits no event. */
  abandon(): Promise<void>;
}

/** The result of a claim. */
export type Claim = { readonly kind: 'run'; readonly run: ClaimedRun } | Replay;

/** The result of the run that had the key. */
export interface Replay {
  readonly kind: 'replay';
  /** Reads the result, and reports by an event that this was done; once, however often it is read. */
  readonly read: <T>(reader: (result: StoredResult) => T) => T;
}

export interface ClaimRequest {
  /** The call, as it is told of. */
  readonly observed: Operation;
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
  /** For one step on Redis, in milliseconds. */
  readonly timeoutMs: number;
  readonly onDuplicate: 'refuse' | 'wait';
  readonly waitTimeoutMs: number;
  readonly onUnavailable: 'refuse' | 'run';
  readonly codec: ResultCodec;
  readonly durability: DurabilityOptions | undefined;
}
