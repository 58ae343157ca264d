import { AtomicRedisError, describe } from '../atomic-redis.errors.js';
import type { Transfer } from './transfer.options.js';

/** A balance is too low for the amount. Nothing was moved, on any leg. */
export class InsufficientFundsError extends AtomicRedisError {
  readonly code = 'INSUFFICIENT_FUNDS';
  readonly outcome = 'not-applied';
  readonly retryable = true;

  constructor(
    /** The key of the balance. */
    readonly key: string,
    /**
     * The balance before this leg. A bigint if the amount is one, or if a number cannot hold it
     * exactly.
     */
    readonly balance: number | bigint,
    /** The least balance that must be left. */
    readonly minimum: number | bigint,
    /** The amount to take. */
    readonly amount: number | bigint,
    /** The number of the leg, counted from 0. */
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

/** A balance would not fit into a signed 64-bit integer. Nothing was moved, on any leg. */
export class BalanceOverflowError extends AtomicRedisError {
  readonly code = 'BALANCE_OVERFLOW';
  readonly outcome = 'not-applied';
  readonly retryable = false;

  constructor(
    readonly key: string,
    readonly amount: number | bigint,
    /** The number of the leg, counted from 0. */
    readonly leg: number,
  ) {
    super(`Balance ${describe(key)} would leave the range of a signed 64-bit integer by adding ${amount}`);
  }
}

/**
 * A transfer across slots was begun, or may have been, and did not end in time. It is neither lost
 * nor made twice: `recover()` finishes it, or gives the amount back. Another call would be another
 * transfer.
 */
export class TransferPendingError extends AtomicRedisError {
  readonly code = 'TRANSFER_PENDING';
  readonly outcome = 'unknown';
  readonly retryable = false;

  constructor(
    /** Has no id if it is unknown whether the transfer was begun. */
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
      `${what} ${id ? 'is' : 'may be'} under way, and did not end in time: call recover() to finish it, not the transfer again${cause instanceof Error ? `: ${cause.message}` : ''}`,
      options,
    );
  }
}
