import type { EnforceableOptions } from '../../operations/operation.options.js';

export interface HoldOptions extends EnforceableOptions {
  /** Time that it is held unless confirmed, released or extended, in milliseconds. */
  ttlMs: number;
  /** Smallest amount that must stay available. @default 0 */
  min?: number | bigint;
}

/** A hold on a counter. */
export interface Hold {
  /**
   * By which any process confirms, releases or extends it, so it is to be kept from others. The
   * counter's key can be read from it.
   */
  readonly id: string;
  readonly quantity: number;
  /** When it is given back, in milliseconds since 1970 by Redis's clock. */
  readonly expiresAtMs: number;
  /** The rest after it. */
  readonly available: number;
}
