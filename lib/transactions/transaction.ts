import type { TransactionReads, TransactionWrites } from './transaction-commands.js';

/**
 * The optimistic transaction that the current code runs in: passed to the work of `TransactionService.run`, and injected by
 * `@InjectTransaction()` into classes with `@OptimisticRetry` methods.
 */
export abstract class Transaction {
  /**
   * Reads, at once, on the transaction's own connection. A read key that is not declared is not protected: declare it, or
   * {@link watch} it first.
   */
  abstract readonly read: TransactionReads;

  /** Writes, queued until the work returns and then applied together, or not at all. */
  abstract readonly write: TransactionWrites;

  /** Which attempt this is, counted from 1. */
  abstract readonly attempt: number;

  /** Aborts when the transaction's deadline passes or its caller's signal aborts. */
  abstract readonly signal: AbortSignal;

  /**
   * Also protects keys found on the way: a change to them by anyone after this call makes the attempt start again.
   *
   * @throws CrossSlotError on a Cluster, when they are not in the slot of the declared keys
   */
  abstract watch(...keys: string[]): Promise<void>;
}
