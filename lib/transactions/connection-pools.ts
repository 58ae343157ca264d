import type { Redis } from 'ioredis';
import { Pool } from 'tarn';
import { CommitMarker } from './commit-marker.js';
import { Deadline } from '../redis/deadline.js';
import type { RedisConnection } from '../redis/redis-connection.js';

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

/** A connection that transactions take turns on, with the marker that goes with it. */
export interface TransactionConnection {
  readonly client: Redis;
  readonly marker: CommitMarker;
}

/** A connection lent to one transaction. */
export interface Lease extends TransactionConnection {
  release(): void;
}

/**
 * Connections of which each serves one transaction at a time, in a bounded pool for every server. A connection that is lost is
 * thrown away, never reconnected: what it watched is gone.
 */
export class ConnectionPools {
  private readonly pools = new Map<string, Pool<TransactionConnection>>();

  constructor(
    private readonly connection: RedisConnection,
    private readonly options: ConnectionPoolOptions,
  ) {}

  /**
   * A connection to the server that has the slot, once it is the caller's turn for one. It was alive a moment ago: its status is for the
   * caller to check in the tick that it writes.
   *
   * A nested transaction does not wait for one, since the transaction around it holds one: when all are in use it gets a connection that
   * is closed after it.
   *
   * @throws RedisUnavailableError when none could be had by the deadline
   */
  async lease(slot: number, deadline: Deadline, isNested: boolean): Promise<Lease> {
    const owner = await this.connection.ownerOf(slot, deadline);
    const pool = this.poolOf(owner);
    if (isNested && pool.numUsed() + pool.numPendingCreates() >= this.options.maxConnections) {
      const connection = await this.open(owner, deadline);
      return { ...connection, release: () => connection.client.disconnect() };
    }
    const pending = pool.acquire();
    try {
      const connection = await deadline.race(pending.promise, () =>
        this.connection.unavailable(
          new Error(`all ${this.options.maxConnections} transaction connections were in use`),
        ),
      );
      return { ...connection, release: () => pool.release(connection) };
    } catch (error) {
      pending.abort();
      // It may have been granted in the same moment.
      pending.promise.then(
        (granted) => pool.release(granted),
        () => undefined,
      );
      throw error;
    }
  }

  get status(): PoolStatus {
    const pools = [...this.pools.values()];
    const total = (count: (pool: Pool<TransactionConnection>) => number): number =>
      pools.reduce((sum, pool) => sum + count(pool), 0);
    return {
      maxConnections: this.options.maxConnections,
      open: total((pool) => pool.numUsed() + pool.numFree()),
      inUse: total((pool) => pool.numUsed()),
      waiting: total((pool) => pool.numPendingAcquires()),
    };
  }

  async close(): Promise<void> {
    const pools = [...this.pools.values()];
    this.pools.clear();
    await Promise.all(pools.map((pool) => pool.destroy()));
  }

  private async open(owner: string, deadline: Deadline): Promise<TransactionConnection> {
    const client = await this.connection.openDedicated(owner, 'transaction', deadline);
    return { client, marker: new CommitMarker(this.connection.keys) };
  }

  private poolOf(owner: string): Pool<TransactionConnection> {
    let pool = this.pools.get(owner);
    if (!pool) {
      this.dropEmptyPools();
      const { maxConnections, idleTimeoutMs, openTimeoutMs } = this.options;
      pool = new Pool<TransactionConnection>({
        min: 0,
        max: maxConnections,
        idleTimeoutMillis: idleTimeoutMs,
        // Callers bring their own deadline; the pool's only has to be later.
        acquireTimeoutMillis: 2 ** 31 - 1,
        createTimeoutMillis: openTimeoutMs * 2,
        propagateCreateError: true,
        create: () => this.open(owner, Deadline.in(openTimeoutMs)),
        validate: ({ client }) => client.status === 'ready',
        destroy: ({ client }) => client.disconnect(),
      });
      this.pools.set(owner, pool);
    }
    return pool;
  }

  /** Servers come and go; what served one that is gone must not stay for ever. */
  private dropEmptyPools(): void {
    for (const [owner, pool] of this.pools) {
      const uses = pool.numUsed() + pool.numFree() + pool.numPendingCreates() + pool.numPendingAcquires();
      if (uses > 0) continue;
      this.pools.delete(owner);
      void pool.destroy();
    }
  }
}
