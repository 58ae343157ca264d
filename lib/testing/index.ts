/** Real servers and broken connections for tests: `nestjs-atomic-redis/testing`. POSIX only; never for production. */
export { startRedisServer, type RedisServer, type RedisServerOptions } from './redis-server.js';
export { RedisServerNotFoundError, RedisServerStartError } from './redis-server.errors.js';
export { startFaultProxy, type FaultProxy, type FaultProxyTarget } from './fault-proxy.js';
export type { Fault, FaultOptions, LateFault } from './fault-rules.js';
export type { RedisCommand } from './resp-frames.js';
