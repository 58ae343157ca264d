import { NotReplicatedError, OutcomeUnknownError, RedisUnavailableError } from '../atomic-redis.errors.js';
import type { CommitParticipant, QueuedCommand } from '../redis/commit-participant.js';
import type { Deadline } from '../redis/deadline.js';
import type { RedisConnection } from '../redis/redis-connection.js';
import type { Committer, CommitResult, Sent } from './commit.js';
import type { Lease } from './connection-pools.js';
import { execReplies } from './exec-replies.js';
import { FollowingAttempt } from './following-attempt.js';
import { GroupCommit } from './group-commit.js';
import type { Turn } from './key-turns.js';
import { LeadingAttempt } from './leading-attempt.js';
import type { TransactionAttempt } from './transaction-attempt.js';
import { RepliesLostError } from './transaction.errors.js';
import type { TransactionRun } from './transaction-run.js';

/** What one attempt came to, when it did not fail for good. */
export type AttemptResult<T> =
  | {
      readonly done: true;
      readonly value: T;
      /** What the caller is told of a transaction that was applied all the same. */
      readonly failure?: Error;
    }
  | { readonly done: false; readonly conflict: boolean; readonly cause?: Error };

/** Runs one attempt of a transaction. */
export class AttemptRunner {
  constructor(
    private readonly connection: RedisConnection,
    private readonly committer: Committer,
  ) {}

  /** On a connection of its own. */
  lead<T>(
    lease: Lease,
    run: TransactionRun<T>,
    number: number,
    turn: Turn<GroupCommit>,
  ): Promise<AttemptResult<T>> {
    const { participant } = run;
    return participant
      ? this.leadFor(participant, lease, run, number, turn)
      : this.leadOn(lease, run, number, turn);
  }

  /** As one of a group that another one leads: commits with it, or has to run again. */
  async follow<T>(
    group: GroupCommit,
    run: TransactionRun<T>,
    number: number,
    turn: Turn<GroupCommit>,
  ): Promise<AttemptResult<T>> {
    const { stop, deadline } = run;
    stop.throwIfStopped();
    run.tally.attempts++;
    const attempt = new FollowingAttempt(group, this.connection, run, number);
    let ended: { readonly value: T } | { readonly error: unknown };
    try {
      ended = { value: await stop.until(Promise.resolve(run.work(attempt))) };
    } catch (error) {
      stop.throwIfStopped();
      ended = { error };
    } finally {
      attempt.end();
    }
    if (attempt.mustLead || !group.isOpen) {
      run.shareNoMore();
      turn.offerNoMore();
      return again();
    }
    const queued = 'value' in ended ? attempt.queued : [];
    const from = group.join({ queued, stop });
    turn.offer(group);
    const sent = await group.departure;
    if (!sent) return again();
    let committed: CommitResult;
    try {
      committed = await this.committer.outcomeOf(sent, { queued, from, deadline, durability: undefined });
    } catch (error) {
      // Of what others have written.
      if (error instanceof OutcomeUnknownError && queued.length === 0) return again(error);
      throw error;
    }
    if (committed.kind !== 'applied') return await this.notApplied(committed, run);
    // It threw because of what it had read, and that is now so.
    if ('error' in ended) throw ended.error;
    return applied(run, attempt, ended.value, committed);
  }

  async againElsewhere(cause: Error, deadline: Deadline): Promise<AttemptResult<never>> {
    await this.connection.refreshTopology(deadline);
    return again(cause);
  }

  private async leadFor<T>(
    participant: CommitParticipant,
    lease: Lease,
    run: TransactionRun<T>,
    number: number,
    turn: Turn<GroupCommit>,
  ): Promise<AttemptResult<T>> {
    try {
      await participant.begin(run.deadline);
    } catch (error) {
      if (error instanceof RedisUnavailableError) return await this.againElsewhere(error, run.deadline);
      throw error;
    }
    let result: AttemptResult<T> | undefined;
    try {
      result = await this.leadOn(lease, run, number, turn);
    } finally {
      const { touched } = participant.end(result?.done ?? false);
      // The participant's own touch made EXEC refuse: nobody else's change, so no attempt of the caller's.
      if (touched && result && !result.done && result.conflict)
        result = again(new Error('the lease was renewed meanwhile'));
    }
    return result;
  }

  private async leadOn<T>(
    lease: Lease,
    run: TransactionRun<T>,
    number: number,
    turn: Turn<GroupCommit>,
  ): Promise<AttemptResult<T>> {
    const { stop, deadline } = run;
    const { durability, completesRun, validateReads } = run.options;
    stop.throwIfStopped();
    if (!lease.connection.isReady) return again(this.connection.unavailable());
    run.tally.attempts++;
    const attempt = new LeadingAttempt(lease.connection, this.connection, run, number);
    let value: T;
    let accompanying: readonly QueuedCommand[] = [];
    try {
      value = await stop.until(Promise.resolve(run.work(attempt)));
      attempt.end();
      if (attempt.watching) await stop.until(attempt.watching);
      if (run.participant && !attempt.failure) accompanying = run.participant.writes(completesRun?.(value));
    } catch (error) {
      attempt.end();
      lease.forgetWatches(stop.isStopped);
      if (attempt.failure && error === attempt.failure)
        return await this.againElsewhere(attempt.failure, deadline);
      throw error;
    }
    if (attempt.failure) return await this.againElsewhere(attempt.failure, deadline);
    const { queued } = attempt;
    if (queued.length + accompanying.length === 0 && !validateReads) {
      lease.forgetWatches(stop.isStopped);
      return { done: true, value };
    }
    const group = turn.canOffer && run.mayShare ? groupBehind(attempt, run) : undefined;
    let sent: Sent;
    try {
      if (group) await gather(group, turn);
      if (stop.isStopped) {
        lease.forgetWatches(true);
        throw stop.reason;
      }
      // In the same tick as EXEC is written: the connection that watched is still the one that commits.
      if (!lease.connection.isReady) return again(this.connection.unavailable());
      const shared = group?.isCommon ? group : undefined;
      const commands = shared?.queued ?? [...queued, ...accompanying];
      sent = this.committer.send(lease.connection, run.slot, commands, run.timeoutMs, shared !== undefined);
      shared?.departed(sent);
    } finally {
      group?.departed(undefined);
    }
    if (!durability) {
      // In this order: the next in turn comes to this connection, so that its WATCH stands behind this EXEC.
      lease.handOn();
      turn.end();
    }
    const committed = await this.committer.outcomeOf(sent, { queued, from: 0, deadline, durability });
    return committed.kind === 'applied'
      ? applied(run, attempt, value, committed)
      : await this.notApplied(committed, run);
  }

  private async notApplied(
    committed: Exclude<CommitResult, { kind: 'applied' }>,
    run: TransactionRun<unknown>,
  ): Promise<AttemptResult<never>> {
    if (committed.kind === 'conflict') return { done: false, conflict: true };
    if (committed.kind === 'not-applied') return await this.againElsewhere(committed.cause, run.deadline);
    run.shareNoMore();
    return again(committed.cause);
  }
}

/** The group that others may be part of whose work is likely to do what this one's did; none when they would need Redis for that. */
function groupBehind(
  { queued, asked }: LeadingAttempt,
  { timeoutMs }: TransactionRun<unknown>,
): GroupCommit | undefined {
  const group = new GroupCommit(queued, timeoutMs);
  return asked.every(({ name, args }) => group.answer(name, args) !== undefined) ? group : undefined;
}

/** Lets those that wait for the turn follow, each after the one before it, as far as they come within this turn of the event loop. */
async function gather(group: GroupCommit, turn: Turn<GroupCommit>): Promise<void> {
  turn.offer(group);
  await new Promise((resolve) => setImmediate(resolve));
}

/** Tells those who asked for it what EXEC answered. */
function applied<T>(
  run: TransactionRun<T>,
  attempt: TransactionAttempt,
  value: T,
  { replies, acknowledged }: CommitResult & { kind: 'applied' },
): AttemptResult<T> {
  const { requireReplies, onReplies, durability } = run.options;
  if (replies === null && (requireReplies || attempt.requireReplies))
    return { done: true, value, failure: new RepliesLostError(run.keys) };
  attempt.committed(replies);
  onReplies?.(execReplies(replies, 0, attempt.queued.length));
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
