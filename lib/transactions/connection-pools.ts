import { CommitMarker } from './commit-marker.js';
import { ConnectionPool } from './connection-pool.js';
import { Deadline } from '../redis/deadline.js';
import type { RedisConnection } from '../redis/redis-connection.js';
import type { Stop } from './stop.js';
import { TransactionConnection } from './transaction-connection.js';

export interface ConnectionPoolOptions {
  maxConnections: number;
  idleTimeoutMs: number;
  /** For opening one connection. */
  openTimeoutMs: number;
}

/** Of the connections that transactions take turns on. */
export interface PoolStatus {
  /** How many there may be for each server. */
  readonly maxConnections: number;
  readonly open: number;
  readonly inUse: number;
  /** Transactions that wait for one. */
  readonly waiting: number;
}

/** A connection lent to one transaction. */
export class Lease {
  private isHandedOn = false;
  private isReleased = false;

  constructor(
    readonly connection: TransactionConnection,
    /** None for a connection that is closed after this one transaction. */
    private readonly pool: ConnectionPool | undefined,
  ) {}

  /**
   * EXEC is written: what another transaction writes now comes behind it, so that the connection need not wait for its answer. The WATCH of
   * the next shares a write with the EXEC of this one, and is answered after it.
   */
  handOn(): void {
    if (this.isHandedOn || !this.pool) return;
    this.isHandedOn = true;
    this.pool.handOn(this.connection);
  }

  /** The transaction is done with it. */
  release(): void {
    if (this.isReleased) return;
    this.isReleased = true;
    if (!this.pool) return this.connection.discard();
    this.pool.leave(this.connection);
    this.handOn();
  }

  /**
   * Leaves the connection fit for the next transaction without waiting for it.
   * @param isSuspect it may be stuck: it is thrown away, unless another transaction waits for an answer on it and will see to that
   */
  forgetWatches(isSuspect: boolean): void {
    const { connection } = this;
    if (isSuspect && connection.users === 1) connection.discard();
    else connection.client.unwatch().catch(() => connection.discard());
  }
}

/**
 * Connections of which each serves one transaction at a time, in a bounded pool for every server. A connection that is lost is
 * thrown away, never reconnected: what it watched is gone.
 */
export class ConnectionPools {
  private readonly pools = new Map<string, ConnectionPool>();

  constructor(
    private readonly connection: RedisConnection,
    private readonly options: ConnectionPoolOptions,
  ) {}

  /** A connection to the server that has the slot, where one is free now. It was alive a moment ago: its status is for the caller to check in the tick that it writes. */
  take(slot: number): Lease | undefined {
    const owner = this.connection.knownOwnerOf(slot);
    const pool = owner === undefined ? undefined : this.pools.get(owner);
    const connection = pool?.take();
    return connection && new Lease(connection, pool);
  }

  /**
   * The same, once it is the caller's turn for one.
   *
   * A nested transaction does not wait for one, since the transaction around it holds one: when all are in use it gets a connection that
   * is closed after it.
   *
   * @throws RedisUnavailableError when none could be had by the deadline, and what ends the transaction before
   */
  async lease(slot: number, deadline: Deadline, isNested: boolean, stop: Stop): Promise<Lease> {
    const owner =
      this.connection.knownOwnerOf(slot) ?? (await stop.until(this.connection.ownerOf(slot, deadline)));
    const pool = this.poolOf(owner);
    const free = pool.take();
    if (free) return new Lease(free, pool);
    if (isNested && pool.isExhausted) {
      const extra = await this.open(owner, deadline);
      extra.users++;
      return new Lease(extra, undefined);
    }
    const place = pool.queue();
    try {
      return new Lease(await stop.until(place.granted), pool);
    } catch (error) {
      place.leave();
      // It may have been granted in the same moment.
      place.granted.then(
        (connection) => new Lease(connection, pool).release(),
        () => undefined,
      );
      if (!stop.isTimedOut) throw error;
      throw this.connection.unavailable(
        new Error(`all ${this.options.maxConnections} transaction connections were in use`),
      );
    }
  }

  get status(): PoolStatus {
    const pools = [...this.pools.values()];
    const total = (count: (pool: ConnectionPool) => number): number =>
      pools.reduce((sum, pool) => sum + count(pool), 0);
    return {
      maxConnections: this.options.maxConnections,
      open: total((pool) => pool.size),
      inUse: total((pool) => pool.inUse),
      waiting: total((pool) => pool.waiting),
    };
  }

  async close(): Promise<void> {
    const pools = [...this.pools.values()];
    this.pools.clear();
    await Promise.all(pools.map((pool) => pool.close()));
  }

  private async open(owner: string, deadline: Deadline): Promise<TransactionConnection> {
    const client = await this.connection.openDedicated(owner, 'transaction', deadline);
    return new TransactionConnection(client, new CommitMarker(this.connection.keys));
  }

  private poolOf(owner: string): ConnectionPool {
    let pool = this.pools.get(owner);
    if (!pool) {
      // Servers come and go; what served one that is gone must not stay for ever.
      for (const [name, unused] of this.pools) if (unused.isEmpty) this.pools.delete(name);
      const { maxConnections, idleTimeoutMs, openTimeoutMs } = this.options;
      const open = (): Promise<TransactionConnection> => this.open(owner, Deadline.in(openTimeoutMs));
      pool = new ConnectionPool(open, maxConnections, idleTimeoutMs);
      this.pools.set(owner, pool);
    }
    return pool;
  }
}
