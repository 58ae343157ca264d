import type { ConnectionPool } from './connection-pool.js';
import type { TransactionConnection } from './transaction-connection.js';

/** A connection lent to one transaction. */
export class Lease {
  /** The depth of nesting, this transaction included. */
  readonly depth: number;
  /** The number of transactions inside of this one that wait for a connection, and make it wait. */
  waitingInside = 0;
  private isHandedOn = false;
  private isReleased = false;

  constructor(
    readonly connection: TransactionConnection,
    readonly pool: ConnectionPool,
    /** The lease of the transaction around it. */
    readonly parent: Lease | undefined,
  ) {
    this.depth = (parent?.depth ?? 0) + 1;
    connection.lease = this;
  }

  /**
   * EXEC is written: what another transaction writes now comes behind it, so that the connection
   * need not wait for its answer. The WATCH of the next shares a write with the EXEC of this one,
   * and is answered after it.
   */
  handOn(): void {
    if (this.isHandedOn) return;
    this.isHandedOn = true;
    this.pool.handOn(this.connection);
  }

  /** The transaction is done with it. */
  release(): void {
    if (this.isReleased) return;
    this.isReleased = true;
    this.pool.leave(this.connection);
    this.handOn();
  }

  /**
   * Leaves the connection fit for the next transaction without waiting for it.
   * @param isSuspect it may be stuck: it is thrown away, unless another transaction waits for an
   * answer on it and will see to that
   */
  forgetWatches(isSuspect: boolean): void {
    const { connection } = this;
    if (isSuspect && connection.users === 1) connection.discard();
    else connection.client.unwatch().catch(() => connection.discard());
  }
}
