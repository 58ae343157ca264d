import { AtomicRedisError, describe } from '../atomic-redis.errors.js';
import type { Transfer } from './transfer.options.js';

/** A balance is too low for what should be taken from it. Nothing was moved, on no leg. */
export class InsufficientFundsError extends AtomicRedisError {
  readonly code = 'INSUFFICIENT_FUNDS';
  readonly outcome = 'not-applied';
  readonly retryable = true;

  constructor(
    /** Of the balance. */
    readonly key: string,
    /** What it holds when this leg's turn comes. A bigint where the amount is one, or a number could not hold it exactly. */
    readonly balance: number | bigint,
    /** What must be left in it. */
    readonly minimum: number | bigint,
    /** What should have been taken from it. */
    readonly amount: number | bigint,
    /** Which of several legs it is, counted from 0. */
    readonly leg: number,
  ) {
    super(
      `Balance ${describe(key)} is ${balance}: taking ${amount} would leave less than its minimum of ${minimum}`,
    );
  }
}

/** @param balance as Redis has it */
export function insufficientFunds(
  balance: string,
  { from, amount, min = 0 }: Transfer,
  leg = 0,
): InsufficientFundsError {
  const isExact = typeof amount === 'number' && Number.isSafeInteger(Number(balance));
  return new InsufficientFundsError(from, isExact ? Number(balance) : BigInt(balance), min, amount, leg);
}

/** A balance would not fit into a signed 64-bit integer. Nothing was moved, on no leg. */
export class BalanceOverflowError extends AtomicRedisError {
  readonly code = 'BALANCE_OVERFLOW';
  readonly outcome = 'not-applied';
  readonly retryable = false;

  constructor(
    readonly key: string,
    readonly amount: number | bigint,
    /** Which of several legs it is, counted from 0. */
    readonly leg: number,
  ) {
    super(`Balance ${describe(key)} would leave the range of a signed 64-bit integer by adding ${amount}`);
  }
}

/**
 * A transfer across slots was begun, or may have been, and could not be brought to an end in time. It is neither lost nor made twice: `recover()` finishes it, or gives the amount
 * back. Calling again would be another transfer.
 */
export class TransferPendingError extends AtomicRedisError {
  readonly code = 'TRANSFER_PENDING';
  readonly outcome = 'unknown';
  readonly retryable = false;

  constructor(
    /** Without an id when it is not even known whether it was begun. */
    readonly transfer: {
      readonly id?: string;
      readonly from: string;
      readonly to: string;
      readonly amount: number | bigint;
      readonly reference?: string;
    },
    options?: ErrorOptions,
  ) {
    const { id, from, to, amount } = transfer;
    const what = `Transfer ${id ? `${id} ` : ''}of ${amount} from ${describe(from)} to ${describe(to)}`;
    const { cause } = options ?? {};
    super(
      `${what} ${id ? 'is' : 'may be'} under way and left to recovery${cause instanceof Error ? `: ${cause.message}` : ''}`,
      options,
    );
  }
}
