import { RedisReplyError } from '../atomic-redis.errors.js';
import { fullJitter, sleep, type Deadline } from '../runtime/deadline.js';

/**
 * Sends a write until Redis accepts it: repeats it while it is refused for want of memory or disk.
 */
export const untilAccepted = <T>(deadline: Deadline, send: () => Promise<T>, attempt = 1): Promise<T> =>
  send().catch(async (error: unknown) => {
    const mayYet = error instanceof RedisReplyError && error.retryable && error.outcome === 'not-applied';
    if (!mayYet || deadline.passed) throw error;
    await sleep(Math.min(fullJitter(attempt, 10, 500), deadline.remainingMs));
    return await untilAccepted(deadline, send, attempt + 1);
  });
