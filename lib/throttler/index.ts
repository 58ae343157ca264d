/** A storage for @nestjs/throttler: `nestjs-atomic-redis/throttler`. */
export { AtomicThrottlerStorage } from './atomic-throttler-storage.js';
