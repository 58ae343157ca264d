import { AtomicRedisError, describe } from '../atomic-redis.errors.js';

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
