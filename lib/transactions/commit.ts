import { AtomicRedisError, NotReplicatedError, OutcomeUnknownError } from '../atomic-redis.errors.js';
import type { QueuedCommand } from '../redis/commit-participant.js';
import { Deadline } from '../redis/deadline.js';
import { patienceOf, type DurabilityOptions } from '../redis/durability.js';
import { replicasOf, type Replicated } from '../redis/durable-channel.js';
import type { RedisConnection } from '../redis/redis-connection.js';
import { finalRefusal, isConnectionLoss, refusalsOf, toReplyError } from '../redis/reply-errors.js';
import type { ScriptRunner } from '../redis/script-runner.js';
import { CommitMarker } from './commit-marker.js';
import type { Lease } from './connection-pools.js';
import { resolveScript, type Resolution } from './resolve.script.js';
import { multiExec } from './multi-exec.js';
import { PartialCommitError } from './transaction.errors.js';

/**
 * What EXEC came to: applied with its replies (null where they were lost), a conflict, or not applied for a reason that passes.
 */
export type CommitResult =
  | {
      readonly kind: 'applied';
      readonly replies: readonly unknown[] | null;
      /** Of those asked for; absent when none were. */
      readonly acknowledged?: Replicated;
    }
  | { readonly kind: 'conflict' }
  | { readonly kind: 'not-applied'; readonly cause: Error };

export interface Commit {
  readonly lease: Lease;
  /** Called when EXEC is written and nothing more will be: who waits for the connection or the keys need not wait for the answer. */
  readonly onWritten: () => void;
  readonly slot: number;
  readonly queued: readonly QueuedCommand[];
  /** Of the library's own, behind the queued ones. */
  readonly accompanying: readonly QueuedCommand[];
  readonly timeoutMs: number;
  readonly deadline: Deadline;
  readonly durability: DurabilityOptions | undefined;
}

/** An EXEC that is not answered this long is looked into from another connection; it is decided there, whatever became of it. */
const EXEC_PATIENCE_MS = 2_000;

/** Commits transactions, and finds out what became of those whose connection died. */
export class Committer {
  constructor(
    private readonly connection: RedisConnection,
    private readonly scripts: ScriptRunner,
  ) {
    connection.preload([resolveScript]);
  }

  /**
   * Sends MULTI, the queued commands, the marker and EXEC in one write. The caller has seen WATCH answered, the marker's included, and
   * the connection ready, in this tick.
   *
   * @throws PartialCommitError when a command failed inside EXEC
   * @throws RedisReplyError when Redis refused a command at queue time: nothing was applied
   * @throws OutcomeUnknownError when EXEC was not answered, and Redis could not be asked by the deadline or its evidence is gone
   */
  async commit(commit: Commit): Promise<CommitResult> {
    const { slot, queued, accompanying, timeoutMs, deadline, durability } = commit;
    const { connection } = commit.lease;
    const { client, marker } = connection;
    const attempt = marker.nextAttempt();
    const ttlMs = CommitMarker.ttlMs(timeoutMs);
    const sentAt = performance.now();
    connection.corkForThisTick();
    const mark = { name: 'set', args: [marker.keyIn(slot), attempt, 'PX', ttlMs] };
    let replies: unknown[] | null;
    try {
      const patience = Deadline.in(Math.min(EXEC_PATIENCE_MS, deadline.remainingMs / 2));
      const answer = this.connection.observer.roundTrip('EXEC', () =>
        multiExec(client, [...queued, ...accompanying, mark]),
      );
      if (!durability) commit.onWritten();
      replies = await patience.race(answer, () => new Error('EXEC was not answered'));
    } catch (error) {
      if (!isConnectionLoss(error)) return refused(error as Error);
      connection.discard();
      return await this.resolve(commit, attempt, ttlMs, error as Error);
    }
    if (replies === null) return { kind: 'conflict' };
    marker.confirm(slot, sentAt, ttlMs);
    const result = applied(queued, replies.slice(0, queued.length));
    if (!durability) return result;
    const acknowledged = await replicasOf(client, durability, patienceOf(durability));
    if (!isConnectionLoss(acknowledged.cause)) return { ...result, acknowledged };
    // Lost while it waited. What replicas have of it is asked where it is found by its marker.
    const found = await this.resolve(commit, attempt, ttlMs, acknowledged.cause as Error).catch(() => result);
    return found.kind === 'applied'
      ? { acknowledged, ...found, replies: result.replies }
      : { ...result, acknowledged };
  }

  /** The reply to EXEC was lost. Whether it was applied, or never will be, is decided from another connection. */
  private async resolve(
    { lease, slot, deadline, durability }: Commit,
    attempt: string,
    ttlMs: number,
    cause: Error,
  ): Promise<CommitResult> {
    const marker = lease.connection.marker.keyIn(slot);
    let resolution;
    let acknowledged: Replicated | undefined;
    try {
      await this.connection.refreshTopology(deadline);
      resolution = await this.scripts.run(resolveScript, { marker }, { attempt, ttlMs }, deadline, {
        durability,
      });
      if (durability) acknowledged = { replicas: durability.replicas };
    } catch (error) {
      if (!(error instanceof AtomicRedisError)) throw error;
      if (!(error instanceof NotReplicatedError))
        throw unknown('and Redis could not be asked before the deadline', error);
      resolution = error.result as Resolution;
      acknowledged = { replicas: error.acknowledged, cause: error.cause };
    }
    if (resolution === 'applied' || resolution === 'not-applied')
      this.connection.observer.occurred({ type: 'outcome.resolved', command: 'EXEC', outcome: resolution });
    if (resolution === 'applied')
      return { kind: 'applied', replies: null, ...(acknowledged && { acknowledged }) };
    if (resolution === 'not-applied') return { kind: 'not-applied', cause };
    throw unknown('and its commit marker is gone (expired, evicted or flushed)', cause);
  }
}

function applied(
  queued: readonly QueuedCommand[],
  replies: readonly unknown[],
): CommitResult & { kind: 'applied' } {
  const failed = replies.findIndex((reply) => reply instanceof Error);
  if (failed >= 0) throw new PartialCommitError(failed, queued[failed]!.name, replies);
  return { kind: 'applied', replies };
}

function refused(error: Error): CommitResult {
  const final = finalRefusal(error);
  if (final) throw toReplyError(final, 'a command of the transaction, so none was applied', error);
  return { kind: 'not-applied', cause: refusalsOf(error)[0] };
}

function unknown(why: string, cause: Error): OutcomeUnknownError {
  return new OutcomeUnknownError(`The transaction was sent, its EXEC was not answered, ${why}`, { cause });
}
