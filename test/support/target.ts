import { Test, type TestingModule } from '@nestjs/testing';
import { Cluster, Redis, type RedisOptions } from 'ioredis';
import { AtomicRedis, AtomicRedisModule, type AtomicRedisOptions } from '../../lib/index.js';
import type { ClusterConnection } from '../../lib/connection/client.js';
import { startRedisServer, type RedisServer } from '../../lib/testing/index.js';
import { startCluster, type TestCluster } from './cluster.js';
import { startDragonflyDouble, type DragonflyDouble } from './dragonfly-double.js';
import { leastRightsAndShadowKeys, PASSWORD, USER } from './least-rights.js';

/**
 * For behaviours that are the same on both: `describe.each(SERVERS)('… on %s', (kind) => { const
 * env = useTarget(kind); … })`.
 */
export const SERVERS = ['one server', 'a Cluster'] as const;

const GIVEN = 'the server at DRAGONFLY_URL';

/** One server behind a proxy that behaves as Dragonfly does. */
export const DOUBLE = 'a double of Dragonfly';

type Kind = (typeof SERVERS)[number] | typeof DOUBLE | typeof GIVEN;

/**
 * Returns the target that `TEST_TARGET` names: `standalone`, the default, `cluster`,
 * `dragonfly-double`, or `url`: the server at `DRAGONFLY_URL`, which is emptied.
 */
export function targetOfEnvironment(): Kind {
  const { TEST_TARGET = 'standalone' } = process.env;
  if (TEST_TARGET === 'standalone') return 'one server';
  if (TEST_TARGET === 'cluster') return 'a Cluster';
  if (TEST_TARGET === 'dragonfly-double') return DOUBLE;
  if (TEST_TARGET === 'url') return GIVEN;
  throw new Error(`TEST_TARGET is ${TEST_TARGET}; it may be standalone, cluster, dragonfly-double or url`);
}

/**
 * One real server or a Cluster for the spec file, emptied before each test, and an application
 * connected to it. Call it inside `describe`.
 *
 * @param options `asUser`: the application connects as a user that may do what docs/servers.md says
 * the library needs, and no more
 */
export function useTarget(
  kind: Kind,
  { asUser = false, replicasPerMaster = 0 }: { replicasPerMaster?: number; asUser?: boolean } = {},
) {
  let server: RedisServer | undefined;
  let double: DragonflyDouble | undefined;
  let cluster: TestCluster | undefined;
  let client: Redis | Cluster | undefined;
  let app: TestingModule | undefined;
  // On an external server, tests use the user of its URL.
  const login: RedisOptions = asUser && kind !== GIVEN ? { username: USER, password: PASSWORD } : {};
  const nodes = (): Redis[] => (cluster ? cluster.nodes.map((node) => node.client) : [client as Redis]);

  const connection = (options: RedisOptions = {}): ClusterConnection | RedisOptions => {
    const { keyPrefix, ...perNode } = { ...login, ...options };
    return cluster
      ? {
          nodes: cluster.nodes.map(({ host, port }) => ({ host, port })),
          options: { redisOptions: perNode, ...(keyPrefix === undefined ? {} : { keyPrefix }) },
        }
      : { ...placeOf(client as Redis), ...login, ...options };
  };

  const another = async (options: Partial<AtomicRedisOptions> = {}): Promise<TestingModule> => {
    const started = await Test.createTestingModule({
      imports: [AtomicRedisModule.forRoot({ connection: connection(), namespace: 'atomic:', ...options })],
    }).compile();
    return await started.init();
  };

  beforeAll(async () => {
    if (kind === 'a Cluster') {
      cluster = await startCluster({ replicasPerMaster });
      client = cluster.connect();
    } else if (kind === GIVEN) {
      client = new Redis(givenUrl());
    } else {
      server = await startRedisServer({ binary: process.env['TEST_REDIS_BINARY'] });
      double = kind === DOUBLE ? await startDragonflyDouble(server) : undefined;
      client = new Redis((double ?? server).url);
    }
    if (login.username)
      for (const node of nodes())
        await node.call('ACL', 'SETUSER', ...leastRightsAndShadowKeys(double && 'dragonfly'));
    app = await another();
  }, 60_000);

  beforeEach(async () => {
    if (cluster) await Promise.all((await masters()).map((node) => node.flushall()));
    else await (client as Redis).flushall();
  });

  afterAll(async () => {
    await app?.close();
    client?.disconnect();
    await double?.stop();
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
    /** True if it may be reconfigured, filled up and killed. */
    isOurs: kind !== GIVEN,
    /** Present if the target is a Cluster. */
    get double() {
      return double;
    },
    /** A client of either that may do everything; the commands are the same. */
    get client() {
      return client as Redis;
    },
    /** To each master, whichever slots it has. */
    masters,
    /** Fills the memory of a server of ours, or frees it again. */
    async setMemoryFull(isFull: boolean): Promise<void> {
      if (double) return await double.setMemoryFull(isFull);
      await Promise.all((await masters()).map((node) => node.config('SET', 'maxmemory', isFull ? '1' : '0')));
    },
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
    /** Returns the connection of an application, with these options of ioredis. */
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

function givenUrl(): string {
  const url = process.env['DRAGONFLY_URL'];
  if (!url) throw new Error('TEST_TARGET is url, but DRAGONFLY_URL is not set');
  return url;
}

function placeOf({ options: { host, port, username, password, db, tls } }: Redis): RedisOptions {
  return { host, port, username, password, db, ...(tls && { tls }) };
}
