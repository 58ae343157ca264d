import type { ThrottlerStorage } from '@nestjs/throttler';
import type { AtomicRedis } from '../atomic-redis.js';

type Hit = Awaited<ReturnType<ThrottlerStorage['increment']>>;

/**
 * Keeps the hits of @nestjs/throttler in Redis, for all processes, without a gap between reading
 * and writing: however many requests come at the same time, no more than the limit pass.
 *
 * ```ts
 * ThrottlerModule.forRootAsync({
 *   inject: [AtomicRedis],
 *   useFactory: (redis: AtomicRedis) => ({
 *     throttlers: [{ limit: 10, ttl: 60_000 }],
 *     storage: new AtomicThrottlerStorage(redis),
 *   }),
 * })
 * ```
 *
 * A hit counts for its `ttl`, in ten steps, so up to a tenth longer. The guard fails with
 * `RedisUnavailableError` or `OutcomeUnknownError` where Redis does not answer: no request passes
 * uncounted.
 */
export class AtomicThrottlerStorage implements ThrottlerStorage {
  constructor(private readonly redis: AtomicRedis) {}

  /**
   * Called by the guard of @nestjs/throttler. Takes and returns times as it does: milliseconds in,
   * seconds out.
   */
  async increment(
    key: string,
    ttl: number,
    limit: number,
    blockDuration: number,
    throttlerName: string,
  ): Promise<Hit> {
    const perMs = Math.max(1, Math.ceil(ttl));
    if (limit < 1)
      return {
        totalHits: 1,
        timeToExpire: seconds(perMs),
        isBlocked: true,
        timeToBlockExpire: seconds(perMs),
      };
    const hit = await this.redis.limits.throttle({
      key: `throttler:${throttlerName}:${key}`,
      limit: Math.floor(limit),
      perMs,
      blockMs: Math.max(0, Math.ceil(blockDuration)),
    });
    const isBlocked = hit.blockedForMs > 0;
    return {
      totalHits: isBlocked ? Math.floor(limit) + 1 : hit.limit.limit - hit.limit.remaining,
      timeToExpire: seconds(Math.max(hit.limit.resetMs, 1)),
      isBlocked,
      timeToBlockExpire: seconds(hit.blockedForMs),
    };
  }
}

const seconds = (ms: number): number => Math.ceil(ms / 1_000);
