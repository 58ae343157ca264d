import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis, type RedisOptions } from 'ioredis';
import { startRedisServer, type RedisServer } from '../../lib/testing/index.js';
import { waitFor } from './wait-for.js';

const GROUP = 'shop';

export interface SentinelGroup {
  /** Options for the module's `connection`, or for a client. */
  readonly connection: RedisOptions;
  /** Two, the master first, as started. */
  readonly servers: readonly [RedisServer, RedisServer];
  /** Every Sentinel and server is there, and the replica has its master's data. */
  settled(): Promise<unknown>;
  /**
   * Kills the master, and resolves when the Sentinels name another one that is one. The old one is
   * started again, as its replica.
   */
  failOver(): Promise<void>;
  stop(): Promise<void>;
}

/** A master, a replica and three Sentinels. A dead master is replaced within some seconds. */
export async function startSentinelGroup(): Promise<SentinelGroup> {
  const binary = process.env['TEST_REDIS_BINARY'];
  const args = ['--repl-diskless-sync-delay', '0', '--appendonly', 'yes'];
  const first = await startRedisServer({ binary, args });
  const second = await startRedisServer({
    binary,
    args: [...args, '--replicaof', `${first.host} ${first.port}`],
  });
  const servers = [first, second] as const;
  const directories: string[] = [];
  const sentinels = await Promise.all(
    [1, 2, 3].map(async () => {
      const directory = await mkdtemp(join(tmpdir(), 'sentinel-'));
      directories.push(directory);
      const file = join(directory, 'sentinel.conf');
      await writeFile(
        file,
        [
          `sentinel monitor ${GROUP} ${first.host} ${first.port} 2`,
          `sentinel down-after-milliseconds ${GROUP} 1000`,
          `sentinel failover-timeout ${GROUP} 4000`,
          '',
        ].join('\n'),
      );
      return startRedisServer({ binary, args: [file, '--sentinel'] });
    }),
  );
  const asked = new Redis(sentinels[0]!.url);
  const byPort = (port: string) => servers.find((server) => server.port === Number(port));
  const infoOf = async (server: RedisServer): Promise<string> => {
    const client = new Redis(server.url, { maxRetriesPerRequest: 0, retryStrategy: null });
    client.on('error', () => {});
    try {
      return await client.info('replication');
    } finally {
      client.disconnect();
    }
  };
  const named = async (): Promise<RedisServer | undefined> => {
    const address = (await asked.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', GROUP)) as string[];
    return byPort(address[1]!);
  };
  const settled = (): Promise<unknown> =>
    waitFor(
      'the Sentinels know each other and the replica',
      async () => {
        const fields = (await asked.call('SENTINEL', 'MASTER', GROUP)) as string[];
        const value = (name: string) => fields[fields.indexOf(name) + 1];
        const master = await named();
        const replica = servers.find((server) => server !== master)!;
        return (
          value('num-other-sentinels') === '2' &&
          value('num-slaves') === '1' &&
          value('flags') === 'master' &&
          /role:slave[\s\S]*master_link_status:up/.test(await infoOf(replica))
        );
      },
      30_000,
    );
  await settled();

  return {
    connection: {
      name: GROUP,
      sentinels: sentinels.map(({ host, port }) => ({ host, port })),
      sentinelRetryStrategy: () => 100,
    },
    servers,
    settled,
    async failOver() {
      await settled();
      const old = (await named())!;
      await old.kill();
      await waitFor(
        'another master',
        async () => {
          const now = await named();
          return now !== undefined && now !== old && (await infoOf(now)).includes('role:master');
        },
        30_000,
      );
      await old.restart();
    },
    async stop() {
      asked.disconnect();
      await Promise.all([...sentinels, ...servers].map((server) => server.stop()));
      await Promise.all(directories.map((directory) => rm(directory, { recursive: true, force: true })));
    },
  };
}
