import { Test, type TestingModule } from '@nestjs/testing';
import { Cluster, Redis, type RedisOptions } from 'ioredis';
import { AtomicRedis, AtomicRedisModule, type AtomicRedisOptions, type ClusterConnection } from '../../lib/index.js';
import { startRedisServer, type RedisServer } from '../../lib/testing/index.js';
import { startCluster, type TestCluster } from './cluster.js';
import { leastRights, PASSWORD, USER } from './least-rights.js';

/** For behaviours that are the same on both: `describe.each(SERVERS)('… on %s', (kind) => { const env = useTarget(kind); … })`. */
export const SERVERS = ['one server', 'a Cluster'] as const;

/** What `TEST_TARGET` names: `standalone`, the default, or `cluster`. */
export function targetOfEnvironment(): (typeof SERVERS)[number] {
  const { TEST_TARGET = 'standalone' } = process.env;
  if (TEST_TARGET === 'standalone') return 'one server';
  if (TEST_TARGET === 'cluster') return 'a Cluster';
  throw new Error(`TEST_TARGET is ${TEST_TARGET}; it may be standalone or cluster`);
}

/**
 * One real server or a Cluster for the spec file, emptied before each test, and an application connected to it.
 * Call it inside `describe`.
 *
 * @param options `asUser`: the application connects as a user that may do what docs/servers.md says the library needs, and no more
 */
export function useTarget(
  kind: (typeof SERVERS)[number],
  { asUser = false, replicasPerMaster = 0 }: { replicasPerMaster?: number; asUser?: boolean } = {},
) {
  let server: RedisServer | undefined;
  let cluster: TestCluster | undefined;
  let client: Redis | Cluster | undefined;
  let app: TestingModule | undefined;
  const login: RedisOptions = asUser ? { username: USER, password: PASSWORD } : {};
  const nodes = (): Redis[] => (cluster ? cluster.nodes.map((node) => node.client) : [client as Redis]);

  const connection = (options: RedisOptions = {}): ClusterConnection | RedisOptions => {
    const { keyPrefix, ...perNode } = { ...login, ...options };
    return cluster
      ? {
          nodes: cluster.nodes.map(({ host, port }) => ({ host, port })),
          options: { redisOptions: perNode, ...(keyPrefix === undefined ? {} : { keyPrefix }) },
        }
      : { host: server!.host, port: server!.port, ...login, ...options };
  };

  const another = async (options: Partial<AtomicRedisOptions> = {}): Promise<TestingModule> => {
    const started = await Test.createTestingModule({
      imports: [AtomicRedisModule.forRoot({ connection: connection(), ...options })],
    }).compile();
    return await started.init();
  };

  beforeAll(async () => {
    if (kind === 'a Cluster') {
      cluster = await startCluster({ replicasPerMaster });
      client = cluster.connect();
    } else {
      server = await startRedisServer({ binary: process.env['TEST_REDIS_BINARY'] });
      client = new Redis(server.url);
    }
    if (asUser) for (const node of nodes()) await node.call('ACL', 'SETUSER', ...leastRights());
    app = await another();
  }, 60_000);

  beforeEach(async () => {
    if (cluster) await Promise.all((await masters()).map((node) => node.flushall()));
    else await (client as Redis).flushall();
  });

  afterAll(async () => {
    await app?.close();
    client?.disconnect();
    await cluster?.stop();
    await server?.stop();
  });

  const masters = async (): Promise<Redis[]> => {
    const roles = await Promise.all(
      nodes().map(async (node) => ((await node.call('ROLE')) as unknown[])[0] === 'master'),
    );
    return nodes().filter((_, i) => roles[i]);
  };

  return {
    isCluster: kind === 'a Cluster',
    /** A client of either that may do everything; the commands are the same. */
    get client() {
      return client as Redis;
    },
    /** To each master, whichever slots it has. */
    masters,
    get cluster() {
      return cluster;
    },
    get app() {
      return app!;
    },
    /** One more application, to be closed by the caller. */
    another,
    get redis(): AtomicRedis {
      return app!.get(AtomicRedis);
    },
    /** How an application connects, with these options of ioredis. */
    connection,
    /** A client as a user would make it, to be disconnected by the caller. */
    ownClient(options: RedisOptions = {}): Redis | Cluster {
      const given = connection(options);
      const { lazyConnect = false, enableAutoPipelining = false } = options;
      if (!('nodes' in given)) return new Redis(given);
      return new Cluster([...given.nodes], { ...given.options, lazyConnect, enableAutoPipelining });
    },
  };
}
