import { Redis } from 'ioredis';
import {
  startFaultProxy,
  startRedisServer,
  type FaultProxy,
  type RedisServer,
} from '../../lib/testing/index.js';
import { startWorker, type WorkerProcess } from './workers.js';

/**
 * A server that keeps what it has acknowledged when it is killed, and processes that work on it,
 * each through a fault proxy of its own.
 */
export interface FaultyServer<Report> {
  readonly server: RedisServer;
  /** Past the proxies. */
  readonly admin: Redis;
  readonly proxies: readonly FaultProxy[];
  readonly workers: readonly WorkerProcess<Report>[];
}

export interface FaultyServerOptions {
  readonly workers: number;
  /** Absolute path of their .ts file. They send a message once they are ready. */
  readonly script: string;
  /** Options that they receive, with the URLs of their proxies. */
  readonly job: (urls: readonly string[]) => object;
  /** After this they are killed. */
  readonly timeoutMs: number;
  /** Made before they start. */
  readonly prepare?: (admin: Redis) => Promise<unknown>;
}

/** Starts all of it, calls `body` once the workers are ready, and leaves nothing running. */
export async function withFaultyServer<Report, Result>(
  { workers: count, script, job, timeoutMs, prepare }: FaultyServerOptions,
  body: (all: FaultyServer<Report>) => Promise<Result>,
): Promise<Result> {
  // Synced before it is answered: what was acknowledged survives a crash.
  const args = ['--appendonly', 'yes', '--appendfsync', 'always'];
  const server = await startRedisServer({ binary: process.env['TEST_REDIS_BINARY'], args });
  const admin = new Redis(server.url, { maxRetriesPerRequest: null, retryStrategy: () => 20 });
  // It is restarted on purpose.
  admin.on('error', () => {});
  const proxies = await Promise.all(Array.from({ length: count }, () => startFaultProxy({ target: server })));
  let workers: WorkerProcess<Report>[] = [];
  try {
    await prepare?.(admin);
    const data = job(proxies.map(({ url }) => url));
    workers = proxies.map((_, index) => startWorker<Report>({ script, data, index, timeoutMs }));
    await Promise.all(workers.map((worker) => worker.next()));
    return await body({ server, admin, proxies, workers });
  } finally {
    server.resume();
    await Promise.all(workers.map((worker) => worker.kill()));
    admin.disconnect();
    await Promise.all(proxies.map((proxy) => proxy.stop()));
    await server.stop();
  }
}
