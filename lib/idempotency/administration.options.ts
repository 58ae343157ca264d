import * as check from '../atomic-redis.validation.js';
import { keyChecks, type IdempotencyKeyOptions } from './idempotency-call.options.js';
import type { HoldReason } from './idempotency.errors.js';
import type { StepSummary } from './record-summary.js';
import type { ResultCodec } from './result-codec.js';
import { checkSettledResponse, type SettledResponse } from './settled-response.js';

/** The state of a key. */
export interface IdempotencyRecord {
  /** Its id, as events and problems show it. */
  readonly record: string;
  /**
   * `running`: a call holds the key; `completed`: its result is kept; `held`: it is kept that a
   * call was made, and there is no result to replay; `interrupted`: a run with steps died or failed
   * midway, and the next call continues it.
   */
  readonly state: 'running' | 'completed' | 'held' | 'interrupted';
  /**
   * The time until the key is free again if nothing happens: the rest of the lease, or of the
   * result's time to live; in milliseconds.
   */
  readonly expiresInMs: number;
  /** The size of the kept result, in bytes. */
  readonly resultBytes: number;
  /** The reason why the outcome of the run is unknown. Of a held key only. */
  readonly reason?: HoldReason;
  /**
   * The number of attempts so far. Of a run with steps, or with `onAbandoned`, and of a held key.
   */
  readonly attempt?: number;
  /** Likewise. */
  readonly steps?: readonly StepSummary[];
}

/** The result that an operator gives a key. */
export type Settlement =
  /** The value that the method should have returned. */
  | { readonly result: unknown }
  /** The response that the route should have sent. */
  | { readonly response: SettledResponse };

/** Options of `IdempotencyService.settle`. @inline */
export interface SettleOptions extends IdempotencyKeyOptions {
  /** Time that the result is kept for replay, in milliseconds. Default: the module's `ttlMs`. */
  ttlMs?: number;
  /** Turns the result into bytes. Default: the module's codec. */
  codec?: ResultCodec;
}

/** Options of `IdempotencyService.forget`. @inline */
export interface ForgetOptions extends IdempotencyKeyOptions {
  /**
   * Gives later runs other keys for third parties, which then take what they are asked for as new.
   * Only where they are known to have done nothing, or are to do it again. @default false
   */
  newKeys?: boolean;
}

export const checkSettlement = check.options({ result: () => undefined, response: checkSettledResponse });
export const checkSettleOptions = check.options({
  ...keyChecks,
  ttlMs: check.milliseconds(),
  codec: check.methods('encode', 'decode'),
} satisfies Record<keyof SettleOptions, check.Check>);
export const checkForgetOptions = check.options({
  ...keyChecks,
  newKeys: check.boolean,
} satisfies Record<keyof ForgetOptions, check.Check>);
