import { Test, type TestingModule } from '@nestjs/testing';
import { Redis, type Cluster } from 'ioredis';
import { AtomicRedisModule, type AtomicRedisOptions } from '../../lib/index.js';
import { startRedisServer, type RedisServer } from '../../lib/testing/index.js';
import { startCluster, type TestCluster } from './cluster.js';

/** For behaviours that are the same on both: `describe.each(SERVERS)('… on %s', (kind) => { const env = useRedisOrCluster(kind); … })`. */
export const SERVERS = ['one server', 'a Cluster'] as const;

/**
 * One real server or a Cluster of three masters for the spec file, emptied before each test, and an application connected to it.
 * Call it inside `describe`.
 */
export function useRedisOrCluster(kind: (typeof SERVERS)[number]): {
  readonly client: Redis;
  readonly app: TestingModule;
  /** One more application, to be closed by the caller. */
  another(): Promise<TestingModule>;
} {
  let server: RedisServer | undefined;
  let cluster: TestCluster | undefined;
  let client: Redis | Cluster | undefined;
  let app: TestingModule | undefined;
  let connection: AtomicRedisOptions['connection'];

  const another = async (): Promise<TestingModule> => {
    const started = await Test.createTestingModule({
      imports: [AtomicRedisModule.forRoot({ connection })],
    }).compile();
    return await started.init();
  };

  beforeAll(async () => {
    if (kind === 'a Cluster') {
      cluster = await startCluster({ replicasPerMaster: 0 });
      client = cluster.connect();
      connection = { nodes: cluster.nodes.map(({ host, port }) => ({ host, port })) };
    } else {
      server = await startRedisServer({ binary: process.env['TEST_REDIS_BINARY'] });
      client = new Redis(server.url);
      connection = server.url;
    }
    app = await another();
  }, 60_000);

  beforeEach(async () => {
    if (cluster) await Promise.all(cluster.nodes.map((node) => node.client.flushall()));
    else await (client as Redis).flushall();
  });

  afterAll(async () => {
    await app?.close();
    client?.disconnect();
    await cluster?.stop();
    await server?.stop();
  });

  return {
    /** A client of either; the commands are the same. */
    get client() {
      return client as Redis;
    },
    get app() {
      return app!;
    },
    another,
  };
}
