import { Redis } from 'ioredis';
import type { CommitMarker } from '../../lib/transactions/commit-marker.js';
import { ConnectionPool, type Place } from '../../lib/transactions/connection-pool.js';
import type { DeadlineKey } from '../../lib/transactions/deadline-key.js';
import type { TransactionServer } from '../../lib/transactions/transaction-server.js';
import { TransactionConnection } from '../../lib/transactions/transaction-connection.js';
import { useRedis } from '../support/redis.js';

describe('the queue for a connection', () => {
  const redis = useRedis();
  const opened: TransactionConnection[] = [];

  afterEach(() => {
    for (const connection of opened.splice(0)) connection.discard();
  });

  const open = async (): Promise<TransactionConnection> => {
    const client = new Redis(redis.server.url, { lazyConnect: true });
    await client.connect();
    const connection = new TransactionConnection(
      client,
      {} as CommitMarker,
      {} as DeadlineKey,
      {} as TransactionServer,
    );
    opened.push(connection);
    return connection;
  };

  const giveBack = (pool: ConnectionPool, connection: TransactionConnection): void => {
    pool.leave(connection);
    pool.handOn(connection);
  };

  it('[TX-6] is served in its order, skipping callers that left it', async () => {
    const pool = new ConnectionPool(open, 1, 60_000);
    const served: number[] = [];
    const use = async (place: Place, number: number): Promise<void> => {
      const connection = await place.granted;
      served.push(number);
      giveBack(pool, connection);
    };
    const places = Array.from({ length: 6 }, () => pool.queue());
    const used = places.map(use);
    expect(pool.waiting).toBe(6);
    places[4]!.leave();
    places[1]!.leave();
    places[1]!.leave();
    expect(pool.waiting).toBe(4);
    await Promise.all([0, 2, 3, 5].map((number) => used[number]!));
    expect(served).toEqual([0, 2, 3, 5]);
    expect(pool.inUse).toBe(0);
  });

  it('[TX-6] keeps its other places when a served connection is discarded', async () => {
    const pool = new ConnectionPool(open, 1, 60_000);
    const first = pool.queue();
    const second = pool.queue();
    const connection = await first.granted;
    first.leave();
    expect(pool.waiting).toBe(1);
    giveBack(pool, connection);
    expect(await second.granted).toBe(connection);
  });

  it('[TX-6] gives out no connection that was lost while it was idle, and closes it', async () => {
    const pool = new ConnectionPool(open, 2, 60_000);
    const [good, lost] = await Promise.all([pool.queue().granted, pool.queue().granted]);
    giveBack(pool, good);
    giveBack(pool, lost);
    lost.discard();
    expect(pool.take()).toBe(good);
    expect(pool.take()).toBeUndefined();
    expect(pool.size).toBe(1);
  });

  it('[TX-6] reports a connection that could not be opened to its first caller', async () => {
    let failures = 1;
    const opening = (): Promise<TransactionConnection> =>
      failures-- > 0 ? Promise.reject(new Error('refused')) : open();
    const pool = new ConnectionPool(opening, 1, 60_000);
    const [first, second] = [pool.queue(), pool.queue()];
    await expect(first.granted).rejects.toThrow('refused');
    const connection = await second.granted;
    expect(connection).toBe(opened[0]);
    expect(pool.waiting).toBe(0);
  });
});
