import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { findServerBinary, freePort } from '../../lib/testing/redis-server-process.js';
import { startRedisServer, type RedisServer } from '../../lib/testing/index.js';
import { waitFor } from './wait-for.js';

/** A master, its replica, and a Sentinel that makes the one the other when it dies. */
export interface SentinelSetup {
  readonly sentinel: { readonly host: string; readonly port: number };
  /** Of the group. */
  readonly name: string;
  readonly master: RedisServer;
  readonly replica: RedisServer;
  stop(): Promise<void>;
}

const NAME = 'group';

export async function startSentinel(): Promise<SentinelSetup> {
  const binary = process.env['TEST_REDIS_BINARY'];
  const master = await startRedisServer({ binary });
  const copies = ['--replicaof', `${master.host} ${master.port}`, '--repl-diskless-sync-delay', '0'];
  const replica = await startRedisServer({ binary, args: copies });
  const directory = await mkdtemp(join(tmpdir(), 'sentinel-'));
  const host = master.host;
  const port = await freePort();
  const file = join(directory, 'sentinel.conf');
  // It writes to its file what it finds out.
  const lines = [
    `port ${port}`,
    `bind ${host}`,
    `dir ${directory}`,
    `sentinel monitor ${NAME} ${host} ${master.port} 1`,
    `sentinel down-after-milliseconds ${NAME} 500`,
    `sentinel failover-timeout ${NAME} 5000`,
  ];
  await writeFile(file, `${lines.join('\n')}\n`);
  const child = spawn(findServerBinary(binary), [file, '--sentinel'], { stdio: 'ignore' });
  const exited = once(child, 'exit');
  const client = new Redis({ host, port, retryStrategy: () => 50, maxRetriesPerRequest: null });
  client.on('error', () => {});
  await waitFor('the Sentinel to know the replica', async () => {
    const replicas = (await client.call('SENTINEL', 'REPLICAS', NAME)) as unknown[][];
    return replicas.length === 1 && JSON.stringify(replicas).includes('"master-link-status","ok"');
  });
  client.disconnect();
  return {
    sentinel: { host, port },
    name: NAME,
    master,
    replica,
    stop: async () => {
      child.kill('SIGKILL');
      await exited;
      await Promise.all([master.stop(), replica.stop()]);
      await rm(directory, { recursive: true, force: true });
    },
  };
}
