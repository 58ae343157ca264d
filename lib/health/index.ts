/** A health indicator for @nestjs/terminus: `nestjs-atomic-redis/health`. */
export { AtomicRedisHealthIndicator } from './atomic-redis.health.js';
