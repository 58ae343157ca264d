import type { Redis } from 'ioredis';
import { OutcomeUnknownError } from '../atomic-redis.errors.js';
import type { Deadline } from '../redis/deadline.js';
import { isConnectionLoss, isTransientRefusal, replyCode, toReplyError } from '../redis/reply-errors.js';
import { PartialCommitError } from './transaction.errors.js';
import type { QueuedCommand } from './transaction-attempt.js';

/** What EXEC came to: applied with its replies, a conflict, or refused for a reason that passes. */
export type CommitResult =
  | { readonly kind: 'applied'; readonly replies: readonly unknown[] }
  | { readonly kind: 'conflict' }
  | { readonly kind: 'refused'; readonly cause: Error };

/**
 * Sends MULTI, the queued commands and EXEC in one write. The caller has seen WATCH answered and the connection ready, in this tick.
 *
 * @throws OutcomeUnknownError when the connection was lost or the deadline passed before EXEC was answered
 * @throws PartialCommitError when a command failed inside EXEC
 * @throws RedisReplyError when Redis refused a command at queue time: nothing was applied
 */
export async function commit(
  client: Redis,
  queued: readonly QueuedCommand[],
  deadline: Deadline,
): Promise<CommitResult> {
  const multi = client.multi() as unknown as Record<string, (...args: unknown[]) => unknown> & {
    exec(): Promise<MultiReplies>;
  };
  for (const { name, args } of queued) multi[name]!(...args);
  let replies: MultiReplies;
  try {
    replies = await deadline.race(multi.exec(), () => unknown(new Error('the deadline passed')));
  } catch (error) {
    return notExecuted(error as Error);
  }
  if (replies === null) return { kind: 'conflict' };
  const failed = replies.findIndex(([error]) => error !== null);
  const values = replies.map(([error, value]) => error ?? value);
  if (failed >= 0) throw new PartialCommitError(failed, queued[failed]!.name, values);
  return { kind: 'applied', replies: values };
}

type MultiReplies = [error: Error | null, value: unknown][] | null;

function notExecuted(error: Error & { previousErrors?: Error[] }): CommitResult {
  if (error instanceof OutcomeUnknownError) throw error;
  if (isConnectionLoss(error)) throw unknown(error);
  const refusals =
    replyCode(error) === 'EXECABORT' && error.previousErrors?.length ? error.previousErrors : [error];
  const final = refusals.find((refusal) => !isTransientRefusal(refusal));
  if (final) throw toReplyError(final, 'a command of the transaction, so none was applied');
  return { kind: 'refused', cause: refusals[0]! };
}

function unknown(cause: Error): OutcomeUnknownError {
  return new OutcomeUnknownError(
    `The transaction was sent, but its EXEC was not answered (${cause.message}); it may have been applied`,
    {
      cause,
    },
  );
}
