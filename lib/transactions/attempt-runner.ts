import { OutcomeUnknownError, RedisUnavailableError } from '../atomic-redis.errors.js';
import type { QueuedCommand } from '../scripting/commit-participant.js';
import type { Deadline } from '../runtime/deadline.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { finalRefusal, isConnectionLoss, toReplyError } from '../connection/reply-errors.js';
import type { Committer, CommitResult } from './commit.js';
import type { Sent } from './exec-answer.js';
import { graceAfterAsking, graceOf } from './answer-grace.js';
import { again, applied, type AttemptResult } from './attempt-result.js';
import { FollowingAttempt } from './following-attempt.js';
import { GroupCommit } from './group-commit.js';
import type { LockSlot } from './keyed-queue-lock.js';
import { LeadingAttempt } from './leading-attempt.js';
import type { Lease } from './lease.js';
import { withParticipants, writesOf } from './participants.js';
import type { TransactionConnection } from './transaction-connection.js';
import type { TransactionRun } from './transaction-run.js';

const NO_COMMANDS: readonly QueuedCommand[] = [];

/** Runs one attempt of a transaction. */
export class AttemptRunner {
  constructor(
    private readonly connection: RedisConnection,
    private readonly committer: Committer,
  ) {}

  /** On a connection of its own. */
  lead<T>(lease: Lease, run: TransactionRun<T>, turn: LockSlot<GroupCommit>): Promise<AttemptResult<T>> {
    const leading = (): Promise<AttemptResult<T>> => this.leadOn(lease, run, turn);
    return run.participants.length > 0
      ? withParticipants(run, leading, (cause) => this.againElsewhere(cause, run.deadline))
      : leading();
  }

  /** As one of a group that another one leads: commits with it, or has to run again. */
  async follow<T>(
    group: GroupCommit,
    run: TransactionRun<T>,
    turn: LockSlot<GroupCommit>,
  ): Promise<AttemptResult<T>> {
    const { stop, deadline } = run;
    stop.throwIfCancelled();
    const attempt = new FollowingAttempt(group, this.connection, run, ++run.tally.attempts);
    let ended: { readonly value: T } | { readonly error: unknown };
    try {
      const value = await stop.until(Promise.resolve(run.work(attempt)));
      if (attempt.isJoining) await stop.until(attempt.joined());
      const completing = attempt.completePushes(deadline);
      if (completing) await stop.until(completing);
      ended = { value };
    } catch (error) {
      stop.throwIfCancelled();
      ended = { error };
    } finally {
      attempt.end();
    }
    if (attempt.mustLead || !group.isOpen) {
      run.shareNoMore();
      turn.stopSharing();
      return again();
    }
    const queued = 'value' in ended ? attempt.commands() : [];
    const from = group.join({ queued, stop, deadline });
    turn.invite(group);
    const sent = await group.flushed;
    if (!sent) return again();
    let committed: CommitResult;
    try {
      committed = await this.committer.outcomeOf(sent, {
        queued,
        from,
        accompanying: NO_COMMANDS,
        deadline,
        durability: undefined,
      });
    } catch (error) {
      // This transaction wrote nothing: only the outcome of other members' writes is unknown.
      if (error instanceof OutcomeUnknownError && queued.length === 0) return again(error);
      throw error;
    }
    if (committed.kind !== 'applied') return await this.notApplied(committed, run);
    // It threw because of what it had read, and that is now so.
    if ('error' in ended) throw ended.error;
    return applied(run, attempt, queued, ended.value, committed);
  }

  async againElsewhere(cause: Error, deadline: Deadline): Promise<AttemptResult<never>> {
    await this.connection.refreshTopology(deadline);
    return again(cause);
  }

  private async leadOn<T>(
    lease: Lease,
    run: TransactionRun<T>,
    turn: LockSlot<GroupCommit>,
  ): Promise<AttemptResult<T>> {
    const { stop, deadline } = run;
    const { connection } = lease;
    const { durability } = run.options;
    stop.throwIfCancelled();
    if (!connection.isReady) return again(this.connection.unavailable());
    let now = performance.now();
    let graceMs = graceOf(run, connection, now);
    if (graceMs === undefined) {
      graceMs = await graceAfterAsking(run, lease, () => this.unanswered());
      now = performance.now();
      if (!connection.isReady) return again(this.connection.unavailable());
    }
    turn.lastAtLeast(graceMs);
    const number = ++run.tally.attempts;
    const attempt = new LeadingAttempt(lease, this.connection, run, number, graceMs, now);
    let value: T;
    let accompanying: readonly QueuedCommand[] = NO_COMMANDS;
    try {
      value = await stop.until(Promise.resolve(run.work(attempt)));
      if (attempt.isJoining) await stop.until(attempt.joined());
      attempt.end();
      if (attempt.watching) await stop.until(attempt.watching);
      const completing = attempt.completePushes(deadline);
      if (completing) await stop.until(completing);
      if (run.participants.length > 0 && !attempt.failure) accompanying = writesOf(run, value);
    } catch (error) {
      attempt.end();
      // An attempt begins only with time for an answer: Redis had it, unless it owes none.
      const isRedisSlow = stop.isTimedOut && error === stop.reason && connection.owesAnswers;
      lease.forgetWatches(stop.isCancelled);
      if (attempt.failure && error === attempt.failure) return await this.failed(attempt, run);
      throw isRedisSlow ? this.connection.unavailable(new Error('a connection gave no reply')) : error;
    }
    if (attempt.failure) {
      lease.forgetWatches(false);
      return await this.failed(attempt, run);
    }
    const queued = attempt.commands();
    if (queued.length + accompanying.length === 0 && !run.options.validateReads && !attempt.validateReads) {
      lease.forgetWatches(stop.isCancelled);
      return { done: true, value };
    }
    const refusal = attempt.refusal ?? connection.server.unverified;
    if (refusal) return await this.refusedBeforeExec(refusal, lease, run);
    const { server } = connection;
    try {
      assertAcceptable(connection, queued);
    } catch (error) {
      lease.forgetWatches(false);
      throw error;
    }
    // A refused member may leave the others unprotected, so each commits alone.
    const mayShare = turn.canInvite && run.mayShare && !server.goesOnAfterRefusal;
    const group = mayShare ? groupBehind(attempt, queued, run) : undefined;
    let sent: Sent;
    try {
      if (group) await gather(group, turn);
      if (stop.isCancelled) {
        lease.forgetWatches(true);
        throw stop.reason;
      }
      // In the same tick as EXEC is written: the connection that watched is still the one that
      // commits.
      if (!connection.isReady) return again(this.connection.unavailable());
      const lifetime = attempt.lifetime!;
      const sendAt = performance.now();
      if (deadline.at - sendAt <= graceMs) {
        lease.forgetWatches(false);
        throw stop.timeOut();
      }
      // EXEC would be refused.
      if (sendAt >= lifetime.endsBy) {
        lease.forgetWatches(false);
        return again();
      }
      const shared = group?.isCommon(graceMs) ? group : undefined;
      const commands = shared?.queued ?? [...queued, ...accompanying];
      sent = this.committer.send(connection, run, commands, lifetime, shared !== undefined, sendAt);
      run.execOutcome = 'unknown';
      shared?.flush(sent);
    } finally {
      group?.flush(undefined);
    }
    if (!durability) {
      // In this order: the next in turn comes to this connection, so that its WATCH stands behind
      // this EXEC.
      lease.handOn();
      turn.end();
    }
    const committed = await this.committer.outcomeOf(sent, {
      queued,
      from: 0,
      accompanying,
      deadline,
      durability,
    });
    if (committed.kind !== 'applied') {
      run.execOutcome = 'not-applied';
      return await this.notApplied(committed, run);
    }
    run.execOutcome = 'applied';
    return applied(run, attempt, queued, value, committed);
  }

  private unanswered(): Error {
    return this.connection.unavailable(new Error('a connection gave no reply'));
  }

  private async failed(attempt: LeadingAttempt, run: TransactionRun<unknown>): Promise<AttemptResult<never>> {
    if (!attempt.isLate) return await this.againElsewhere(attempt.failure!, run.deadline);
    run.graceFactor *= 2;
    return again(attempt.failure);
  }

  /** Redis refused a key of the library's own, without which nothing may be committed. */
  private async refusedBeforeExec(
    refusal: Error,
    lease: Lease,
    run: TransactionRun<unknown>,
  ): Promise<AttemptResult<never>> {
    lease.forgetWatches(false);
    if (lease.connection.server.unverified) lease.connection.retire();
    // The probe of a server that was lost meanwhile says so by an error of the library.
    const isPassing = isConnectionLoss(refusal) || refusal instanceof RedisUnavailableError;
    const final = isPassing ? undefined : finalRefusal(refusal);
    if (final) throw toReplyError(final, 'a key that the transaction needs, so nothing was applied');
    return await this.againElsewhere(refusal, run.deadline);
  }

  private async notApplied(
    committed: Exclude<CommitResult, { kind: 'applied' }>,
    run: TransactionRun<unknown>,
  ): Promise<AttemptResult<never>> {
    if (committed.kind === 'conflict') return { done: false, conflict: true };
    if (committed.kind === 'too-late') return again();
    if (committed.kind === 'not-applied') return await this.againElsewhere(committed.cause, run.deadline);
    run.shareNoMore();
    return again(committed.cause);
  }
}

/**
 * @throws why the server would refuse a command for itself, where it must not be sent for that:
 * nothing was applied
 */
function assertAcceptable(connection: TransactionConnection, queued: readonly QueuedCommand[]): void {
  connection.assertReadable(queued);
  const refusal = connection.server.refusalOf(queued);
  if (refusal) throw toReplyError(refusal, 'a command of the transaction, so none was sent');
}

/**
 * The group that others may be part of whose work is likely to do what this one's did; none when
 * they would need Redis for that.
 */
function groupBehind(
  { asked, lifetime }: LeadingAttempt,
  queued: readonly QueuedCommand[],
  { timeoutMs }: TransactionRun<unknown>,
): GroupCommit | undefined {
  const group = new GroupCommit(queued, timeoutMs, lifetime!.endsBy);
  return asked.every(({ name, args }) => group.answer(name, args) !== undefined) ? group : undefined;
}

/**
 * Lets those that wait for the turn follow, each after the one before it, as far as they come
 * within this turn of the event loop.
 */
async function gather(group: GroupCommit, turn: LockSlot<GroupCommit>): Promise<void> {
  turn.invite(group);
  await new Promise((resolve) => setImmediate(resolve));
}
