import type { TransactionConnection } from './transaction-connection.js';

/** The parts that the pool reads and counts of the transactions around a waiting one. */
interface LeaseAround {
  readonly depth: number;
  readonly parent: LeaseAround | undefined;
  readonly pool: { relieve(): void };
  waitingInside: number;
}

interface PoolWaiter {
  /** The lease of the transaction around it; undefined outside of one. */
  readonly parent: LeaseAround | undefined;
  granted(connection: TransactionConnection): void;
  failed(error: Error): void;
}

/** A place in the line for a connection. */
export interface Place {
  readonly granted: Promise<TransactionConnection>;
  /** Gives the place up. */
  leave(): void;
}

/**
 * A bounded number of connections to one server. Each is lent to one transaction at a time. A lost
 * connection is thrown away; one that was unused for long is closed.
 *
 * Transactions that hold all connections may wait for transactions inside of them, which wait in
 * line. Then the pool opens one more for one of those. It never has more of these than transactions
 * stand around the one that gets it.
 */
export class ConnectionPool {
  private readonly members = new Set<TransactionConnection>();
  /** Connections that no transaction uses, the longest unused first. */
  private readonly idle: { readonly connection: TransactionConnection; readonly since: number }[] = [];
  private readonly line: PoolWaiter[] = [];
  private opening = 0;
  /** Why the last one could not be opened. */
  private failure: { readonly error: Error; readonly at: number } | undefined;
  private idleTimer: NodeJS.Timeout | undefined;
  private whenClosed: (() => void) | undefined;

  constructor(
    private readonly open: () => Promise<TransactionConnection>,
    private readonly maxConnections: number,
    private readonly idleTimeoutMs: number,
  ) {}

  get size(): number {
    return this.members.size;
  }

  get inUse(): number {
    let count = 0;
    for (const { users } of this.members) if (users > 0) count++;
    return count;
  }

  /** True if the most connections allowed are open. */
  get isFull(): boolean {
    return this.size >= this.maxConnections;
  }

  /** Why none could be opened, where one was tried since that time. */
  failureSince(at: number): Error | undefined {
    return this.failure && this.failure.at >= at ? this.failure.error : undefined;
  }

  get waiting(): number {
    return this.line.length;
  }

  get isEmpty(): boolean {
    return this.size + this.opening + this.waiting === 0;
  }

  /** A connection that is free. */
  take(): TransactionConnection | undefined {
    for (;;) {
      const connection = this.idle.pop()?.connection;
      if (connection === undefined || connection.isReady) {
        if (connection) connection.users++;
        return connection;
      }
      this.drop(connection);
    }
  }

  /** A place in the line for the next that is free, or that can be opened. */
  queue(parent?: LeaseAround): Place {
    let waiter: PoolWaiter;
    const granted = new Promise<TransactionConnection>((resolve, reject) => {
      waiter = { parent, granted: resolve, failed: reject };
      this.line.push(waiter);
    });
    for (let around = parent; around; around = around.parent) around.waitingInside++;
    this.openMore();
    // Each of those around it waits from now on, at whichever server.
    for (let around = parent; around; around = around.parent) around.pool.relieve();
    this.relieve();
    return { granted, leave: () => this.leaveLine(waiter) };
  }

  /**
   * Lends it to the next in line, or keeps it. The transaction that hands it on may still wait for
   * a reply on it.
   */
  handOn(connection: TransactionConnection): void {
    connection.lease = undefined;
    if (!connection.isReady || this.whenClosed) return this.drop(connection);
    const extra = this.members.size - this.maxConnections;
    const next = extra > 0 ? this.stuck(extra - 1, connection) : this.line[0];
    if (next) {
      this.leaveLine(next);
      connection.users++;
      next.granted(connection);
      return;
    }
    if (extra > 0) return this.drop(connection);
    this.idle.push({ connection, since: performance.now() });
    this.idleTimer ??= setTimeout(() => this.closeIdle(), this.idleTimeoutMs).unref();
  }

  /** One user is done with it. */
  leave(connection: TransactionConnection): void {
    connection.users--;
    if (connection.isDropped) this.drop(connection);
  }

  /** Resolves when no connection is in use and all are closed. */
  close(): Promise<void> {
    clearTimeout(this.idleTimer);
    return new Promise((resolve) => {
      this.whenClosed = resolve;
      for (const { connection } of this.idle.splice(0)) this.drop(connection);
      this.settleClose();
    });
  }

  /** Opens one more, where all of them wait for what waits in line. */
  relieve(): void {
    if (this.opening > 0 || this.hasRoom || this.idle.length > 0 || this.whenClosed) return;
    if (this.stuck(this.members.size - this.maxConnections)) void this.openOne();
  }

  private get hasRoom(): boolean {
    return this.members.size + this.opening < this.maxConnections;
  }

  /**
   * The first in line that has more transactions around it than there are extra connections, where
   * nothing else makes room for it.
   */
  private stuck(extra: number, free?: TransactionConnection): PoolWaiter | undefined {
    for (const member of this.members) if (member !== free && !member.lease?.waitingInside) return undefined;
    return this.line.find(({ parent }) => (parent?.depth ?? 0) > extra);
  }

  private leaveLine(waiter: PoolWaiter): void {
    const at = this.line.indexOf(waiter);
    if (at === -1) return;
    this.line.splice(at, 1);
    for (let around = waiter.parent; around; around = around.parent) around.waitingInside--;
  }

  private openMore(): void {
    while (this.hasRoom && this.opening < this.line.length) void this.openOne();
  }

  private async openOne(): Promise<void> {
    this.opening++;
    try {
      const connection = await this.open();
      this.opening--;
      this.members.add(connection);
      this.handOn(connection);
    } catch (error) {
      this.opening--;
      this.failure = { error: error as Error, at: performance.now() };
      const [next] = this.line;
      if (next) this.leaveLine(next);
      next?.failed(error as Error);
      this.openMore();
      this.relieve();
      this.settleClose();
    }
  }

  /** Closes it once no reply is awaited on it. */
  private drop(connection: TransactionConnection): void {
    connection.isDropped = true;
    if (connection.users > 0) return;
    this.members.delete(connection);
    connection.discard();
    this.openMore();
    this.relieve();
    this.settleClose();
  }

  private closeIdle(): void {
    this.idleTimer = undefined;
    const before = performance.now() - this.idleTimeoutMs;
    while (this.idle.length > 0 && this.idle[0]!.since <= before) this.drop(this.idle.shift()!.connection);
    const [oldest] = this.idle;
    if (oldest) this.idleTimer = setTimeout(() => this.closeIdle(), oldest.since - before).unref();
  }

  private settleClose(): void {
    if (this.members.size + this.opening === 0) this.whenClosed?.();
  }
}
