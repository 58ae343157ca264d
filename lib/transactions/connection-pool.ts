import type { TransactionConnection } from './transaction-connection.js';

interface Waiter {
  granted(connection: TransactionConnection): void;
  failed(error: Error): void;
}

/** Somebody's place in the line for a connection. */
export interface Place {
  readonly granted: Promise<TransactionConnection>;
  /** Gives the place up. */
  leave(): void;
}

/**
 * A bounded number of connections to one server, each lent to one transaction at a time. One that is lost is thrown away, one that nobody
 * used for long is closed.
 */
export class ConnectionPool {
  private readonly members = new Set<TransactionConnection>();
  /** Those that nobody waits for, the one longest unused first. */
  private readonly idle: { readonly connection: TransactionConnection; readonly since: number }[] = [];
  private readonly line: Waiter[] = [];
  private opening = 0;
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

  get waiting(): number {
    return this.line.length;
  }

  get isEmpty(): boolean {
    return this.size + this.opening + this.waiting === 0;
  }

  /** Whether it could neither lend a connection now nor open another one. */
  get isExhausted(): boolean {
    return this.idle.length === 0 && !this.hasRoom;
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
  queue(): Place {
    let waiter: Waiter;
    const granted = new Promise<TransactionConnection>((resolve, reject) => {
      waiter = { granted: resolve, failed: reject };
      this.line.push(waiter);
    });
    this.openMore();
    const leave = (): void => {
      const at = this.line.indexOf(waiter);
      if (at !== -1) this.line.splice(at, 1);
    };
    return { granted, leave };
  }

  /** Lends it to the next in line, or keeps it. Who hands it on may still wait for an answer on it. */
  handOn(connection: TransactionConnection): void {
    if (!connection.isReady || this.whenClosed) return this.drop(connection);
    const next = this.line.shift();
    if (next) {
      connection.users++;
      next.granted(connection);
      return;
    }
    this.idle.push({ connection, since: performance.now() });
    this.idleTimer ??= setTimeout(() => this.closeIdle(), this.idleTimeoutMs).unref();
  }

  /** One user is done with it. */
  leave(connection: TransactionConnection): void {
    connection.users--;
    if (connection.isDropped) this.drop(connection);
  }

  /** Resolves when nobody uses a connection any more and all are closed. */
  close(): Promise<void> {
    clearTimeout(this.idleTimer);
    return new Promise((resolve) => {
      this.whenClosed = resolve;
      for (const { connection } of this.idle.splice(0)) this.drop(connection);
      this.settleClose();
    });
  }

  private get hasRoom(): boolean {
    return this.members.size + this.opening < this.maxConnections;
  }

  private openMore(): void {
    while (this.hasRoom && this.opening < this.line.length) {
      this.opening++;
      void this.openOne();
    }
  }

  private async openOne(): Promise<void> {
    try {
      const connection = await this.open();
      this.opening--;
      this.members.add(connection);
      this.handOn(connection);
    } catch (error) {
      this.opening--;
      this.line.shift()?.failed(error as Error);
      this.openMore();
      this.settleClose();
    }
  }

  /** Closes it once nobody waits for an answer on it. */
  private drop(connection: TransactionConnection): void {
    connection.isDropped = true;
    if (connection.users > 0) return;
    this.members.delete(connection);
    connection.discard();
    this.openMore();
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
