import { IllegalTransactionStateError } from '../atomic-redis.errors.js';
import { AsyncScope } from './async-scope.js';

/** How a call relates to the transaction that the calling code runs in. */
export enum Propagation {
  /** A transaction becomes part of the open one: its keys are watched too, and there is one commit. */
  Join = 'join',
  /** A transaction of its own, committed by itself, even if the open one is not. */
  New = 'new',
  /** Another operation is made on its own, and again by each attempt of the open transaction. */
  Outside = 'outside',
}

/** One attempt's work, which may be run again. */
export interface TransactionScope {
  /** Whether it is still running. */
  readonly isOpen: boolean;
}

// Of the whole process: what one registration's transaction runs again, it runs again whichever registration it calls.
const scopes = new AsyncScope<{ readonly owner: object; readonly work: TransactionScope }>();

/** Runs `body` as retried work of `owner`. */
export const runInTransactionScope = <T>(owner: object, work: TransactionScope, body: () => T): T =>
  scopes.run({ owner, work }, body);

/** The innermost work of `owner` that the calling code runs in. */
export const transactionScopeOf = (owner: object): TransactionScope | undefined =>
  scopes.find((one) => one.owner === owner)?.work;

/** The innermost work that is still running, and may run again, with the calling code as a part of it. */
export const openTransactionScope = (): TransactionScope | undefined =>
  scopes.find(({ work }) => work.isOpen)?.work;

/** Whether the calling code is part of work that is still running, and may run again. */
export const isInTransaction = (): boolean => openTransactionScope() !== undefined;

/**
 * Guards an operation that takes effect by itself: inside a transaction it would do so once for each attempt.
 *
 * @throws IllegalTransactionStateError inside an open transaction, unless `propagation` is `outside`
 */
export function assertOutsideTransaction(
  operation: string,
  propagation: `${Propagation.Outside}` | undefined,
  instead = 'tx.write',
): void {
  if (propagation === Propagation.Outside || !isInTransaction()) return;
  throw new IllegalTransactionStateError(
    `${operation} inside a transaction would take effect once for each attempt. Use ${instead}, or make the call after the ` +
      `transaction; if repeating it is right, pass propagation: 'outside'`,
  );
}
