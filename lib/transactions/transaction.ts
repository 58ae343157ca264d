import type { PushTarget, QueuedPushOptions } from '../scripting/queued-push.js';
import type { TransactionReads, TransactionWrites } from './transaction-commands.js';

/**
 * The optimistic transaction that the current code runs in: passed to the work of
 * `TransactionService.run`, and injected by `@InjectTransaction()` into classes with
 * `@OptimisticRetry` methods.
 */
export abstract class Transaction {
  /**
   * Reads, at once, on the transaction's own connection. A read key that is not declared is not
   * protected: declare it, or {@link watch} it first.
   */
  abstract readonly read: TransactionReads;

  /** Writes, queued until the work returns and then applied together, or not at all. */
  abstract readonly write: TransactionWrites;

  /** The number of this attempt, counted from 1. */
  abstract readonly attempt: number;

  /** Aborts when the transaction's deadline passes or its caller's signal aborts. */
  abstract readonly signal: AbortSignal;

  /**
   * Also protects keys found on the way: a change to them by anyone after this call makes the
   * attempt start again.
   *
   * @throws CrossSlotError on a Cluster, when they are not in the slot of the declared keys
   */
  abstract watch(...keys: string[]): Promise<void>;

  /**
   * Pushes a job with the writes: the job is in its queue exactly if the transaction was applied,
   * and processes that wait for it are woken then. It costs no round trip more. The payload is
   * copied. A repeated attempt pushes again, with another id.
   *
   * ```ts
   * tx.write.set(`order:{${id}}`, 'paid');
   * tx.push(this.emails, { to, subject: 'Your order' });
   * ```
   *
   * @param queue of `ReliableQueueService.get`, of the same registration; on a Cluster its name
   * shares the hash tag of the transaction's keys
   * @returns the job's id
   * @throws InvalidArgumentError, nothing is applied
   * @throws CrossSlotError on a Cluster, when the queue is not in the slot of the declared keys
   * @throws IllegalTransactionStateError for a queue of another registration
   */
  abstract push<Payload>(
    queue: PushTarget<Payload>,
    payload: NoInfer<Payload>,
    options?: QueuedPushOptions,
  ): string;
}
