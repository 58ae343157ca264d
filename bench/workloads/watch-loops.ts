import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import { createClientPool } from 'redis';
import { createLock, IoredisAdapter } from 'redlock-universal';

/** Adds 1 to the number under a key by reading it, and tells how often it had to try. */
export interface Incrementer {
  readonly name: string;
  readonly increment: (key: string) => Promise<number>;
  readonly close: () => Promise<void>;
}

export const FLOORS = {
  plain: 'floor: WATCH loop, ioredis',
  marked: 'floor: WATCH loop with a marker, ioredis',
} as const;

const MARKER_TTL_MS = 130_000;

/**
 * WATCH, GET, MULTI, SET, EXEC in two writes, on a pool of connections; with a marker, what it
 * takes to know the outcome when the reply to EXEC is lost.
 */
export async function watchLoop(
  url: string,
  { connections, marker }: { connections: number; marker: boolean },
): Promise<Incrementer> {
  const clients = Array.from({ length: connections }, () => new Redis(url));
  await Promise.all(clients.map((client) => client.ping()));
  const markers = new Map(
    clients.map((client) => [client, `marker:${randomBytes(16).toString('base64url')}`]),
  );
  for (const [client, key] of markers) await client.set(key, 'armed', 'PX', MARKER_TTL_MS);
  const idle = [...clients];
  const waiting: ((client: Redis) => void)[] = [];
  const take = (): Promise<Redis> | Redis =>
    idle.pop() ?? new Promise<Redis>((resolve) => waiting.push(resolve));
  const giveBack = (client: Redis): void => {
    const next = waiting.shift();
    if (next) next(client);
    else idle.push(client);
  };
  let attempts = 0;
  const attempt = async (client: Redis, key: string): Promise<boolean> => {
    const mark = markers.get(client)!;
    // In one write.
    const read = await client
      .pipeline([
        ['watch', ...(marker ? [key, mark] : [key])],
        ['get', key],
      ])
      .exec();
    const value = read?.[1]?.[1];
    const multi = client.multi().set(key, Number(value) + 1);
    if (marker) multi.set(mark, String(++attempts), 'PX', MARKER_TTL_MS);
    return (await multi.exec()) !== null;
  };
  return {
    name: marker ? FLOORS.marked : FLOORS.plain,
    async increment(key) {
      const client = await take();
      try {
        for (let tried = 1; ; tried++) if (await attempt(client, key)) return tried;
      } finally {
        giveBack(client);
      }
    },
    close: async () => clients.forEach((client) => client.disconnect()),
  };
}

/** The loop of node-redis's documentation, on its own pool. */
export async function nodeRedisLoop(url: string, connections: number): Promise<Incrementer> {
  const pool = createClientPool({ url }, { minimum: connections, maximum: connections });
  await pool.connect();
  return {
    name: 'node-redis, pool',
    increment: (key) =>
      pool.execute(async (client) => {
        for (let tried = 1; ; tried++) {
          const [, value] = await Promise.all([client.watch(key), client.get(key)]);
          try {
            await client
              .multi()
              .set(key, String(Number(value) + 1))
              .exec();
            return tried;
          } catch (error) {
            if ((error as Error).constructor.name !== 'WatchError') throw error;
          }
        }
      }),
    close: async () => pool.destroy(),
  };
}

/** A lock around GET and SET. */
export async function lockLoop(url: string): Promise<Incrementer> {
  const client = new Redis(url);
  const adapter = new IoredisAdapter(client as never);
  return {
    name: 'redlock-universal',
    async increment(key) {
      const lock = createLock({
        adapter,
        key: `lock:${key}`,
        ttl: 10_000,
        retryAttempts: 100_000,
        retryDelay: 5,
        performance: 'lean',
      });
      const handle = await lock.acquire();
      try {
        await client.set(key, Number(await client.get(key)) + 1);
      } finally {
        await lock.release(handle);
      }
      return handle.metadata?.attempts ?? 1;
    },
    close: async () => client.disconnect(),
  };
}
