/** Real servers and broken connections for tests: `nestjs-atomic-redis/testing`. POSIX only; never for production. */
export { startRedisServer, type RedisServer, type RedisServerOptions } from './redis-server.js';
export { RedisServerNotFoundError, RedisServerStartError } from './redis-server.errors.js';
