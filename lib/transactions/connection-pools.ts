import { Deadline } from '../runtime/deadline.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { CommitMarker } from './commit-marker.js';
import { ConnectionPool } from './connection-pool.js';
import { DeadlineKey } from './deadline-key.js';
import { Lease } from './lease.js';
import type { CancellationToken } from './cancellation-token.js';
import { TransactionConnection } from './transaction-connection.js';
import type { TransactionServer } from './transaction-server.js';
import { TransactionServers } from './transaction-servers.js';

export interface ConnectionPoolOptions {
  maxConnections: number;
  idleTimeoutMs: number;
  /** For opening one connection. */
  openTimeoutMs: number;
}

/** The state of the connections that transactions take turns on. @inline */
type Status = {
  /** The bound for each server. */
  readonly maxConnections: number;
  readonly open: number;
  readonly inUse: number;
  /** Transactions that wait for one. */
  readonly waiting: number;
};

/** @inline */
export type PoolStatus = Status;

/** The connections to one server. */
interface ServerPool {
  readonly pool: ConnectionPool;
  readonly server: TransactionServer;
}

/**
 * Connections of which each serves one transaction at a time, in a bounded pool for every server. A
 * connection that is lost is thrown away, never reconnected: what it watched is gone.
 */
export class ConnectionPools {
  readonly servers: TransactionServers;
  private readonly pools = new Map<string, ServerPool>();

  constructor(
    private readonly connection: RedisConnection,
    private readonly options: ConnectionPoolOptions,
  ) {
    this.servers = new TransactionServers(connection, options.openTimeoutMs);
  }

  /**
   * A connection to the server that has the slot, where one is free now. It was alive a moment ago:
   * its status is for the caller to check in the tick that it writes.
   * @throws ConfigurationError when transactions cannot be run at that server
   */
  take(slot: number, parent: Lease | undefined): Lease | undefined {
    const owner = this.connection.knownOwnerOf(slot);
    const found = owner === undefined ? undefined : this.pools.get(owner);
    if (!found) return undefined;
    assertFit(found.server);
    const connection = found.pool.take();
    return connection && new Lease(connection, found.pool, parent);
  }

  /**
   * The same, once it is the caller's turn for one.
   *
   * @throws RedisUnavailableError when none could be had by the deadline, and what ends the
   * transaction before
   * @throws ConfigurationError when transactions cannot be run at that server
   */
  async lease(
    slot: number,
    deadline: Deadline,
    parent: Lease | undefined,
    stop: CancellationToken,
  ): Promise<Lease> {
    const owner = this.connection.knownOwnerOf(slot) ?? (await this.ownerOf(slot, deadline, stop));
    const { pool, server } = this.poolOf(owner, slot);
    assertFit(server);
    const free = pool.take();
    if (free) return new Lease(free, pool, parent);
    const queuedAt = performance.now();
    const place = pool.queue(parent);
    try {
      return new Lease(await stop.until(place.granted), pool, parent);
    } catch (error) {
      place.leave();
      // It may have been granted in the same moment.
      place.granted.then(
        (connection) => new Lease(connection, pool, parent).release(),
        () => undefined,
      );
      throw stop.isTimedOut && error === stop.reason ? this.noneInTime(pool, queuedAt) : error;
    }
  }

  private async ownerOf(slot: number, deadline: Deadline, stop: CancellationToken): Promise<string> {
    const since = performance.now();
    try {
      return await stop.until(this.connection.ownerOf(slot, deadline));
    } catch (error) {
      // The time of both ends in the same moment.
      throw stop.isTimedOut && error === stop.reason ? this.connection.unavailableSince(since) : error;
    }
  }

  private noneInTime(pool: ConnectionPool, queuedAt: number): Error {
    const { connection } = this;
    const { maxConnections } = this.options;
    if (pool.isFull)
      return connection.unavailable(new Error(`all ${maxConnections} transaction connections were in use`));
    const failure = pool.failureSince(queuedAt);
    if (failure) return failure;
    return connection.isReady
      ? connection.unavailable(new Error('a new connection gave no reply'))
      : connection.unavailableSince(queuedAt);
  }

  get status(): PoolStatus {
    const pools = [...this.pools.values()].map(({ pool }) => pool);
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
    await Promise.all(pools.map(({ pool }) => pool.close()));
  }

  private async open(
    owner: string,
    server: TransactionServer,
    deadline: Deadline,
  ): Promise<TransactionConnection> {
    const { connection } = this;
    const fitness = await server.fitness();
    if (fitness.kind === 'unfit') throw fitness.error;
    const client = await connection.openDedicated(owner, 'transaction', deadline);
    const { keys, maxArguments } = connection;
    const marker = new CommitMarker(keys);
    return new TransactionConnection(client, marker, new DeadlineKey(keys), server, maxArguments);
  }

  private poolOf(owner: string, slot: number): ServerPool {
    let found = this.pools.get(owner);
    if (!found) {
      // Servers come and go; what served one that is gone must not stay for ever.
      for (const [name, { pool }] of this.pools) if (pool.isEmpty) this.pools.delete(name);
      const { maxConnections, idleTimeoutMs, openTimeoutMs } = this.options;
      const server = this.servers.named(owner, slot);
      const open = (): Promise<TransactionConnection> => this.open(owner, server, Deadline.in(openTimeoutMs));
      found = { pool: new ConnectionPool(open, maxConnections, idleTimeoutMs), server };
      this.pools.set(owner, found);
    }
    return found;
  }
}

function assertFit(server: TransactionServer): void {
  const { refusal } = server;
  if (refusal) throw refusal;
}
