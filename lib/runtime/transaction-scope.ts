import { IllegalTransactionStateError } from '../atomic-redis.errors.js';
import { AsyncScope } from './async-scope.js';

/** The relation of a call to the transaction that the calling code runs in. */
export enum Propagation {
  /**
   * A transaction becomes a part of the open one: its keys are watched too, and there is one
   * commit.
   */
  Join = 'join',
  /** A transaction runs on its own, and is committed even if the open one is not. */
  New = 'new',
  /** Any other operation takes effect on its own, once for each attempt of the open transaction. */
  Outside = 'outside',
}

/** One attempt's work, which may be run again. */
export interface TransactionScope {
  /** True while it is running. */
  readonly isOpen: boolean;
}

// One for the whole process: a transaction repeats its work, whichever registration that work
// calls.
const scopes = new AsyncScope<{ readonly owner: object; readonly work: TransactionScope }>();

/** Runs `body` as work that a transaction of `owner` may repeat. */
export const runInTransactionScope = <T>(owner: object, work: TransactionScope, body: () => T): T =>
  scopes.run({ owner, work }, body);

/** Returns the innermost work of `owner` around the calling code. */
export const transactionScopeOf = (owner: object): TransactionScope | undefined =>
  scopes.find((one) => one.owner === owner)?.work;

/**
 * Returns the innermost work around the calling code that is still running, so that it may be
 * repeated.
 */
export const openTransactionScope = (): TransactionScope | undefined =>
  scopes.find(({ work }) => work.isOpen)?.work;

/** Returns true if the calling code is a part of work that a transaction may repeat. */
export const isInTransaction = (): boolean => openTransactionScope() !== undefined;

/**
 * Guards an operation that takes effect on its own: inside a transaction it would do so once for
 * each attempt.
 *
 * @throws IllegalTransactionStateError inside an open transaction, unless `propagation` is
 * `outside`
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
