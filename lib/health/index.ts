/** A health indicator for @nestjs/terminus: `nestjs-atomic-redis/health`. */
export { AtomicRedisHealthIndicator, type HealthOptions } from './atomic-redis.health.js';
