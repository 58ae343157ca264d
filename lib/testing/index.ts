/**
 * For tests, never for production: a stand-in without Redis, and real servers with broken
 * connections (POSIX only). `nestjs-atomic-redis/testing`.
 */
export { AtomicRedisTestingModule } from './atomic-redis-testing.module.js';
export { AtomicRedisOutcomes, type MethodOutcome } from './method-outcomes.js';
export type { PushedJob, QueuedCommand } from './stub-transaction.js';
export { testJob, type TestJob } from './test-job.js';
export { startRedisServer, type RedisServer } from './redis-server.js';
export { RedisServerNotFoundError, RedisServerStartError } from './redis-server.errors.js';
export { startFaultProxy, type FaultProxy } from './fault-proxy.js';
export type { Fault, FaultOptions } from './fault-rules.js';
export type { RedisCommand } from './resp-frames.js';
