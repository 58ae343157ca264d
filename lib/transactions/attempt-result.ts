import { NotReplicatedError } from '../atomic-redis.errors.js';
import type { CommitResult } from './commit.js';
import { repliesTo } from './exec-replies.js';
import type { OwnedCommand } from './open-transaction.js';
import type { TransactionAttempt } from './transaction-attempt.js';
import { RepliesLostError } from './transaction.errors.js';
import type { TransactionRun } from './transaction-run.js';

/** The result of one attempt that did not fail for good. */
export type AttemptResult<T> =
  | {
      readonly done: true;
      readonly value: T;
      /** The error for the caller of a transaction that was applied nevertheless. */
      readonly failure?: Error;
    }
  | { readonly done: false; readonly conflict: boolean; readonly cause?: Error };

/** Passes EXEC's replies to the callers that asked for them. */
export function applied<T>(
  run: TransactionRun<T>,
  attempt: TransactionAttempt,
  queued: readonly OwnedCommand[],
  value: T,
  { replies, acknowledged }: CommitResult & { kind: 'applied' },
): AttemptResult<T> {
  const { requireReplies, onReplies, durability } = run.options;
  attempt.pushed();
  if (replies === null && (requireReplies || attempt.requireReplies))
    return { done: true, value, failure: new RepliesLostError(run.keys) };
  attempt.committed(replies);
  onReplies?.(repliesTo(queued, replies));
  if (!durability || !acknowledged || acknowledged.replicas >= durability.replicas)
    return { done: true, value };
  const { replicas, cause } = acknowledged;
  const failure = new NotReplicatedError('A transaction', durability.replicas, replicas, value, { cause });
  return { done: true, value, failure };
}

export const again = (cause?: Error): AttemptResult<never> => ({
  done: false,
  conflict: false,
  ...(cause && { cause }),
});
