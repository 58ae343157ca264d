import type { EnforceableOptions } from '../operations/operation.options.js';
import type { LimitsResult } from './limit-result.js';

/** Options of `LimitService.reserve`. @inline */
export interface ReserveOptions extends EnforceableOptions {
  /** Time after which the reservation lapses unless it is settled, in milliseconds. */
  ttlMs: number;
}

/** A reservation that was made. @inline */
type Reserved = LimitsResult & {
  readonly allowed: true;
  /**
   * By it any process settles the reservation, so keep it from others. The limits' keys can be read
   * from it.
   */
  readonly id: string;
  /** When it lapses, in milliseconds since 1970 by Redis's clock. */
  readonly expiresAtMs: number;
};

/** The result when a limit refused the reservation. @inline */
type NotReserved = LimitsResult & {
  readonly allowed: false;
  readonly id: undefined;
  readonly expiresAtMs: undefined;
};

/** The result of `LimitService.reserve`. `allowed` tells whether there is a reservation. */
export type LimitReservation = Reserved | NotReserved;
