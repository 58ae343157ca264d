import { IllegalTransactionStateError } from '../atomic-redis.errors.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { Deadline } from '../runtime/deadline.js';
import type { QueuedCommand } from '../scripting/commit-participant.js';
import type { PreparedPush } from '../scripting/prepared-push.js';
import { delayedMember } from './delayed-member.js';
import type { PayloadLimits } from './payload-limits.js';
import { firstHistory, type Job } from './pushed-job.js';
import type { QueueAccess } from './queue-access.js';

/**
 * Makes the commands that push a job by a transaction's EXEC. They need no marker of their own: the
 * transaction's commit marker tells whether they were done.
 *
 * As the script of a push does, they wake a process that waits. A delayed job always does, since
 * only Redis could tell whether it is due next; a process that is woken for nothing waits on.
 *
 * @param checking the check of the payload, if it takes its time
 * @throws IllegalTransactionStateError for a transaction of another registration, which would write
 * to another Redis
 */
export function transactionPush(
  to: QueueAccess,
  by: RedisConnection,
  job: Job,
  limits: PayloadLimits,
  checking: Promise<unknown> | undefined,
): PreparedPush {
  const { redis, title, queue, keys } = to;
  if (redis.connection !== by)
    throw new IllegalTransactionStateError(
      `tx.push: ${title} belongs to another registration than the transaction. Use the queue of the transaction's own registration`,
    );
  const { id, payload, delayMs } = job;
  const history = firstHistory(job);
  const place = delayMs > 0 ? [keys.delayed, '0', id] : [keys.pending, id];
  const commands: QueuedCommand[] = [
    { name: 'hset', args: [keys.jobs, id, payload] },
    ...(history === undefined ? [] : [{ name: 'hset', args: [keys.history, id, history] }]),
    { name: delayMs > 0 ? 'zadd' : 'rpush', args: place },
    { name: 'zadd', args: [keys.wake, '0', '1'] },
  ];
  const isInDoubt = limits.isInDoubt([payload]);
  const complete = async (deadline: Deadline): Promise<void> => {
    await checking;
    if (isInDoubt) await limits.check('payload', [payload]);
    if (delayMs === 0) return;
    const endsAt = await by.inServerTime(deadline, by.keys.slotOf(keys.delayed));
    const nowMs = Math.ceil(endsAt - (deadline.at - performance.now()));
    place.splice(1, 2, String(nowMs + delayMs), delayedMember(id, nowMs));
  };
  return {
    id,
    commands,
    complete: checking || isInDoubt || delayMs > 0 ? complete : undefined,
    applied: () =>
      redis.observer
        .begin('queues.push', queue)
        .end(() => ({ type: 'queues.push', name: queue, outcome: 'applied' })),
  };
}
