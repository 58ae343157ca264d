import { RedisReplyError } from '../atomic-redis.errors.js';
import { fullJitter, sleep, type Deadline } from '../runtime/deadline.js';

/** Sends a write until Redis accepts it: goes on while it is refused for want of memory or disk. */
export async function untilAccepted<T>(deadline: Deadline, send: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await send();
    } catch (error) {
      const mayYet = error instanceof RedisReplyError && error.retryable && error.outcome === 'not-applied';
      if (!mayYet || deadline.passed) throw error;
      await sleep(Math.min(fullJitter(attempt, 10, 500), deadline.remainingMs));
    }
  }
}
