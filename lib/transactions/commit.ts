import {
  AtomicRedisError,
  ModuleClosedError,
  NotReplicatedError,
  OutcomeUnknownError,
} from '../atomic-redis.errors.js';
import type { QueuedCommand } from '../scripting/commit-participant.js';
import { sleep, type Deadline } from '../runtime/deadline.js';
import { replicationDeadline, type DurabilityOptions } from '../connection/durability.js';
import { replicasOf, type Replicated } from '../connection/durable-channel.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import {
  finalRefusal,
  isConnectionLoss,
  isTransientRefusal,
  isUnread,
  refusalsOf,
  replyCode,
  toReplyError,
} from '../connection/reply-errors.js';
import type { ScriptRunner } from '../scripting/script-runner.js';
import { CommitMarker } from './commit-marker.js';
import type { Lifetime } from './deadline-key.js';
import { execAnswer, type Sent } from './exec-answer.js';
import { resolveScript, type Resolution } from './resolve.script.js';
import { multiExec, RanOutsideMulti } from './multi-exec.js';
import type { TransactionConnection } from './transaction-connection.js';
import { commandRefused } from './transaction-probe.js';
import { PartialCommitError } from './transaction.errors.js';

/**
 * The result of EXEC: applied with its replies (null if they were lost), a conflict, or not applied
 * for a reason that passes.
 */
export type CommitResult =
  | {
      readonly kind: 'applied';
      readonly replies: readonly unknown[] | null;
      /** The acknowledgements of replicas; absent when none were asked for. */
      readonly acknowledged?: Replicated;
    }
  | { readonly kind: 'conflict' }
  /** Nothing was applied: the deadline key had expired, or may have, when EXEC was done. */
  | { readonly kind: 'too-late' }
  | { readonly kind: 'not-applied'; readonly cause: Error }
  /** Not applied; what Redis has against it may be about another transaction of the same EXEC. */
  | { readonly kind: 'refused-together'; readonly cause: Error };

/** The part of an EXEC that is one transaction. */
export interface Share {
  readonly queued: readonly QueuedCommand[];
  /** The number of other transactions' commands in front of its own. */
  readonly from: number;
  /** The commands behind its own that complete a run, step or job. */
  readonly accompanying: readonly QueuedCommand[];
  readonly deadline: Deadline;
  readonly durability: DurabilityOptions | undefined;
}

/** Commits transactions, and resolves the outcome of those whose connection died. */
export class Committer {
  constructor(
    private readonly connection: RedisConnection,
    private readonly scripts: ScriptRunner,
  ) {
    connection.preload([resolveScript]);
  }

  /**
   * Sends MULTI, the commands, the marker and EXEC in one write. The caller has seen WATCH
   * answered, the marker's included, and the connection ready, in this tick.
   */
  send(
    connection: TransactionConnection,
    { slot, timeoutMs }: { readonly slot: number; readonly timeoutMs: number },
    commands: readonly QueuedCommand[],
    lifetime: Lifetime,
    isShared: boolean,
    sentAt = performance.now(),
  ): Sent {
    const { marker } = connection;
    const attempt = marker.nextAttempt();
    const ttlMs = CommitMarker.ttlMs(timeoutMs);
    const marksBeginning = connection.server.goesOnAfterRefusal;
    const mark = { name: 'set', args: [marker.keyIn(slot), attempt, 'PX', ttlMs] };
    const all = [...commands, mark];
    if (marksBeginning) all.unshift({ name: 'set', args: [marker.beginningIn(slot), attempt, 'PX', ttlMs] });
    const answer = this.connection.observer.roundTrip('EXEC', () => multiExec(connection, all));
    return { connection, slot, attempt, ttlMs, lifetime, sentAt, answer, isShared, marksBeginning };
  }

  /**
   * Returns the outcome of a transaction that was sent.
   *
   * @throws PartialCommitError when a command of it failed inside EXEC, or its commands were done
   * although MULTI was refused
   * @throws RedisReplyError when Redis refused a command of it at queue time: nothing was applied
   * @throws OutcomeUnknownError when EXEC was not answered, and Redis could not be asked by the
   * deadline or its evidence is gone
   */
  async outcomeOf(sent: Sent, share: Share): Promise<CommitResult> {
    const { connection, slot } = sent;
    const { deadline, durability } = share;
    let replies: unknown[] | null;
    try {
      replies = await execAnswer(sent, deadline);
    } catch (error) {
      if (error instanceof RanOutsideMulti) return this.ranOutsideMulti(error, sent, share);
      if (isConnectionLoss(error)) {
        connection.discard();
        // The server closes a connection on which it cannot read a command.
        const unread = (error as ExecError).previousErrors?.find(isUnread);
        return unread
          ? await this.resolveRefused(unread, sent, share)
          : await this.resolve(sent, share, error as Error, true);
      }
      if (!isDiscarded(error)) return await this.execRefused(error as ExecError, sent, share);
      return refused(error as ExecError, sent.isShared);
    }
    if (replies === null)
      return performance.now() < sent.lifetime.livesUntil ? { kind: 'conflict' } : { kind: 'too-late' };
    connection.marker.confirm(slot, sent.sentAt, sent.ttlMs);
    const result = applied(replies, sent, share);
    if (!durability) return result;
    const acknowledged = await replicasOf(connection.client, durability, replicationDeadline(durability));
    if (!isConnectionLoss(acknowledged.cause)) return { ...result, acknowledged };
    // The connection was lost during the wait for replicas. The resolver asks replicas at the
    // server where it finds the marker.
    const found = await this.resolve(sent, share, acknowledged.cause as Error, false).catch(() => result);
    return found.kind === 'applied'
      ? { acknowledged, ...found, replies: result.replies }
      : { ...result, acknowledged };
  }

  /**
   * The commands took effect, whatever became of the watched keys. The connection may be in any
   * state.
   */
  private ranOutsideMulti(
    { cause, isMulti, replies }: RanOutsideMulti,
    sent: Sent,
    share: Share,
  ): CommitResult {
    const { connection, isShared } = sent;
    const { queued } = share;
    connection.retire();
    if (isMulti) connection.server.suspect(commandRefused(this.connection.address, 'MULTI', cause));
    const error = toReplyError(cause, 'a transaction, of which nothing was applied');
    if (queued.length === 0 && isShared) return { kind: 'refused-together', cause: error };
    const own = replies && ownOf(replies, sent, share);
    const isNothing = own && !isMulti && own.every((reply) => reply instanceof Error);
    if (isNothing && isShared) return { kind: 'refused-together', cause: error };
    // The completion of a run stands behind its writes, and may have been done.
    if ((isNothing || queued.length === 0) && share.accompanying.length === 0) throw error;
    if (own) {
      const failed = own.findIndex((reply) => reply instanceof Error);
      // Else the refusal of a command tells it all.
      throw new PartialCommitError(failed, queued[failed]?.name ?? 'multi', own, {
        refusal: isMulti || failed < 0 ? cause : undefined,
        completion: failureOfCompletion(replies, sent, share)?.error,
      });
    }
    throw new OutcomeUnknownError(
      `Redis refused ${isMulti ? 'MULTI' : 'a command'}, so the transaction's commands ran one by one, or may have, and their replies were lost: ${cause.message}`,
      { cause },
    );
  }

  /**
   * EXEC itself was refused, and its commands may be queued yet. The connection is thrown away, and
   * the marker makes sure that they are not done.
   */
  private async execRefused(error: ExecError, sent: Sent, share: Share): Promise<CommitResult> {
    const { connection } = sent;
    connection.retire();
    const [refusal = error] = error.previousErrors;
    connection.server.suspect(commandRefused(this.connection.address, 'EXEC', refusal));
    return await this.resolveRefused(refusal, sent, share);
  }

  /**
   * The marker makes sure of what a refusal only suggests: that EXEC was not done, and will not be.
   */
  private async resolveRefused(refusal: Error, sent: Sent, share: Share): Promise<CommitResult> {
    const resolved = await this.resolve(sent, share, refusal, false);
    return resolved.kind === 'not-applied'
      ? refused(Object.assign(refusal, { previousErrors: [] }), sent.isShared)
      : resolved;
  }

  /**
   * Decides the outcome of an EXEC whose reply was lost, from another connection: applied, or never
   * to be.
   *
   * @param mayArrive true if EXEC may still be on its way
   */
  private async resolve(
    { connection, slot, attempt, ttlMs, marksBeginning, lifetime }: Sent,
    { deadline, durability }: Share,
    cause: Error,
    mayArrive: boolean,
  ): Promise<CommitResult> {
    const marker = connection.marker.keyIn(slot);
    const beginning = marksBeginning ? connection.marker.beginningIn(slot) : marker;
    let resolution;
    let acknowledged: Replicated | undefined;
    try {
      await this.connection.refreshTopology(deadline);
      resolution = await this.scripts.run(
        resolveScript,
        { marker, beginning },
        { attempt, ttlMs },
        deadline,
        { durability },
      );
      if (durability) acknowledged = { replicas: durability.replicas };
    } catch (error) {
      if (!(error instanceof AtomicRedisError)) throw error;
      if (!(error instanceof NotReplicatedError)) {
        // Redis may have refused the question at once, and EXEC may still be on its way. Once its
        // deadline key has expired, it does nothing any more.
        const leftMs = lifetime.endsBy - performance.now();
        if (mayArrive && leftMs > 0 && !isOfClosing(error)) await sleep(leftMs);
        throw unknown('and Redis could not be asked for its outcome', error);
      }
      resolution = error.result as Resolution;
      acknowledged = { replicas: error.acknowledged, cause: error.cause };
    }
    if (resolution === 'applied' || resolution === 'not-applied')
      this.connection.observer.occurred({ type: 'outcome.resolved', command: 'EXEC', outcome: resolution });
    if (resolution === 'applied')
      return { kind: 'applied', replies: null, ...(acknowledged && { acknowledged }) };
    if (resolution === 'not-applied') return { kind: 'not-applied', cause };
    throw unknown(
      'and its commit marker is gone (expired, evicted or flushed) or does not prove that all of it was done',
      cause,
    );
  }
}

/** Returns the replies to a transaction's own commands. */
function ownOf(
  replies: readonly unknown[],
  { marksBeginning }: Sent,
  { queued, from }: Pick<Share, 'queued' | 'from'>,
): readonly unknown[] {
  const start = marksBeginning ? from + 1 : from;
  return replies.slice(start, start + queued.length);
}

/** Returns the first failed command of those that complete a run, step or job. */
function failureOfCompletion(
  all: readonly unknown[],
  sent: Sent,
  { queued, from, accompanying }: Share,
): { readonly name: string; readonly error: Error } | undefined {
  if (accompanying.length === 0) return undefined;
  const replies = ownOf(all, sent, { queued: accompanying, from: from + queued.length });
  const at = replies.findIndex((reply) => reply instanceof Error);
  return at < 0 ? undefined : { name: accompanying[at]!.name, error: replies[at] as Error };
}

function applied(all: readonly unknown[], sent: Sent, share: Share): CommitResult & { kind: 'applied' } {
  const replies = ownOf(all, sent, share);
  const failed = replies.findIndex((reply) => reply instanceof Error);
  const completion = failureOfCompletion(all, sent, share);
  if (failed >= 0 || completion) {
    const name = share.queued[failed]?.name ?? completion!.name;
    throw new PartialCommitError(failed, name, replies, { completion: completion?.error });
  }
  return { kind: 'applied', replies };
}

/** No caller waits any more for the leftovers of a closing module. */
const isOfClosing = (error: Error): boolean =>
  error instanceof ModuleClosedError || error.cause instanceof ModuleClosedError;

/** The error of EXEC, with the errors of the commands before it. */
type ExecError = Error & { previousErrors: Error[] };

/** Answers to EXEC by which Redis has dropped what was queued. */
const isDiscarded = (error: unknown): boolean =>
  replyCode(error) === 'EXECABORT' || isTransientRefusal(error);

function refused(error: ExecError, isShared: boolean): CommitResult {
  // The refusal may concern another member's command. Each retries alone and gets its own error.
  if (isShared) return { kind: 'refused-together', cause: error };
  const final = finalRefusal(error);
  if (final) throw toReplyError(final, 'a command of the transaction, so none was applied', error);
  return { kind: 'not-applied', cause: refusalsOf(error)[0] };
}

function unknown(why: string, cause: Error): OutcomeUnknownError {
  return new OutcomeUnknownError(`The transaction was sent, its EXEC was not answered, ${why}`, { cause });
}
