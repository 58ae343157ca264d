import * as check from '../../atomic-redis.validation.js';
import { operationOptionChecks, type OperationOptions } from '../../operations/operation.options.js';
import type { Transfer } from '../transfer.options.js';
import { assertTwoBalances, positive } from '../transfer.options.js';
import type { TransferPendingError } from '../transfer.errors.js';
import type { PendingTransfer } from './pending-transfer.js';

/** One movement from one balance to another, in any two slots. */
export interface AcrossSlotsTransfer<N extends number | bigint = number | bigint> extends Transfer<N> {
  /**
   * The caller's own name for the transfer, such as the id of a payment; kept with it while it is
   * under way.
   */
  reference?: string;
}

/** Options of every call about transfers across slots. @inline */
export interface AcrossSlotsOptions extends Omit<OperationOptions, 'deduplicate'> {}

/** Options of `TransferService.pending`. @inline */
export interface PendingTransfersOptions {
  /**
   * Only transfers that take from balances in the slot of this key, by one round trip. Default: all
   * 16,384 slots, which are asked one by one.
   */
  from?: string;
  /** Leave out younger transfers, in milliseconds. @default 0 */
  minAgeMs?: number;
  /** Largest number of transfers on a page, up to 1,000. @default 100 */
  limit?: number;
  /** The `cursor` of the page before. Default: begins with the first page. */
  cursor?: string;
  /**
   * Time for each round of reads, in which up to 1,024 slots are asked, in milliseconds. Default:
   * the module's `timeoutMs`.
   */
  timeoutMs?: number;
}

/** A page of transfers that are under way. @inline */
type Page = {
  /** Oldest first, of each slot. */
  readonly transfers: readonly PendingTransfer[];
  /** For the next page; absent when there is none. */
  readonly cursor?: string;
};

/** @inline */
export type PendingTransfers = Page;

/** Options of `TransferService.recover`. @inline */
export interface RecoverOptions extends AcrossSlotsOptions {
  /** Only transfers that take from balances in the slot of this key. Default: all slots. */
  from?: string;
  /**
   * Leave out younger transfers, in milliseconds: the process that began one is likely still at
   * work. @default 10000
   */
  minAgeMs?: number;
  /**
   * Time for each round of reads, as of `pending`, and for each transfer, in milliseconds. Default:
   * the module's `timeoutMs`.
   */
  timeoutMs?: number;
}

/** Outcome of a recovery. @inline */
type Outcome = {
  /** Number of transfers that it found credited, or credited itself. */
  readonly credited: number;
  /** Number of transfers that it gave back, or found given back. */
  readonly refunded: number;
  /** Number of transfers that are still open. */
  readonly failed: number;
  /** Errors of the first 100 open ones. */
  readonly errors: readonly TransferPendingError[];
};

/** @inline */
export type Recovery = Outcome;

const { deduplicate: _, ...optionChecks } = operationOptionChecks;

const checkProperties = check.options(
  {
    from: check.key,
    to: check.key,
    amount: positive,
    min: check.int64,
    reference: check.text,
  } satisfies Record<keyof AcrossSlotsTransfer, check.Check>,
  'from',
  'to',
  'amount',
);

export const checkAcrossSlotsOptions = check.options(
  optionChecks satisfies Record<keyof AcrossSlotsOptions, check.Check>,
);

export const checkPendingOptions = check.options({
  from: check.key,
  minAgeMs: check.milliseconds(0),
  limit: check.integer(1, 1_000),
  cursor: check.nonEmptyString,
  timeoutMs: check.waitMs(),
} satisfies Record<keyof PendingTransfersOptions, check.Check>);

export const checkRecoverOptions = check.options({
  ...optionChecks,
  from: check.key,
  minAgeMs: check.milliseconds(0),
} satisfies Record<keyof RecoverOptions, check.Check>);

/**
 * Copies the transfer as it was checked, so that later changes to the caller's object make no
 * difference.
 */
export type CheckedAcrossSlots = Required<Transfer> & Pick<AcrossSlotsTransfer, 'reference'>;

/** @throws InvalidArgumentError */
export function checkedAcrossSlots(path: string, transfer: AcrossSlotsTransfer): CheckedAcrossSlots {
  checkProperties(path, transfer);
  const { from, to, amount, min = 0, reference } = transfer;
  assertTwoBalances(path, from, to);
  return { from, to, amount, min, ...(reference !== undefined && { reference }) };
}
