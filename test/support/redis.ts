import { Redis } from 'ioredis';
import { startRedisServer, type RedisServer } from '../../lib/testing/index.js';

/**
 * One real server for the spec file, emptied before each test; `TEST_REDIS_BINARY` picks another
 * server than the one on PATH. Call it inside `describe`.
 */
export function useRedis(options: Parameters<typeof startRedisServer>[0] = {}): {
  readonly server: RedisServer;
  readonly client: Redis;
} {
  let server: RedisServer | undefined;
  let client: Redis | undefined;

  beforeAll(async () => {
    server = await startRedisServer({ binary: process.env.TEST_REDIS_BINARY, ...options });
    client = new Redis(server.url);
  });

  beforeEach(() => client?.flushall());

  afterAll(async () => {
    client?.disconnect();
    await server?.stop();
  });

  return {
    get server() {
      if (!server) throw new Error('useRedis: the server runs only while tests do');
      return server;
    },
    get client() {
      if (!client) throw new Error('useRedis: the client lives only while tests run');
      return client;
    },
  };
}
