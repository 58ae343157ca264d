import { runInTransactionScope } from '../../lib/runtime/transaction-scope.js';

/**
 * Runs `body` once, as inside an open transaction. A real one may run it again on a busy machine,
 * with everything that it does outside.
 */
export const inTransaction = <T>(body: () => T): T => runInTransactionScope({}, { isOpen: true }, body);
