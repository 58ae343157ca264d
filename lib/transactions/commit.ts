import { AtomicRedisError, NotReplicatedError, OutcomeUnknownError } from '../atomic-redis.errors.js';
import type { QueuedCommand } from '../redis/commit-participant.js';
import { Deadline } from '../redis/deadline.js';
import { patienceOf, type DurabilityOptions } from '../redis/durability.js';
import { replicasOf, type Replicated } from '../redis/durable-channel.js';
import type { RedisConnection } from '../redis/redis-connection.js';
import { finalRefusal, isConnectionLoss, refusalsOf, toReplyError } from '../redis/reply-errors.js';
import type { ScriptRunner } from '../redis/script-runner.js';
import { CommitMarker } from './commit-marker.js';
import { resolveScript, type Resolution } from './resolve.script.js';
import { multiExec } from './multi-exec.js';
import type { TransactionConnection } from './transaction-connection.js';
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
  | { readonly kind: 'not-applied'; readonly cause: Error }
  /** Not applied; what Redis has against it may be about another transaction of the same EXEC. */
  | { readonly kind: 'refused-together'; readonly cause: Error };

/** An EXEC that is written, and by what its outcome can be found. */
export interface Sent {
  readonly connection: TransactionConnection;
  readonly slot: number;
  /** What it sets the marker to. */
  readonly attempt: string;
  readonly ttlMs: number;
  /** Monotonic time. */
  readonly sentAt: number;
  readonly answer: Promise<unknown[] | null>;
  /** Whether it commits several transactions. */
  readonly isShared: boolean;
}

/** The part of an EXEC that is one transaction. */
export interface Share {
  readonly queued: readonly QueuedCommand[];
  /** How many commands of others stand before. */
  readonly from: number;
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
   * Sends MULTI, the commands, the marker and EXEC in one write. The caller has seen WATCH answered, the marker's included, and
   * the connection ready, in this tick.
   */
  send(
    connection: TransactionConnection,
    slot: number,
    commands: readonly QueuedCommand[],
    timeoutMs: number,
    isShared: boolean,
  ): Sent {
    const { marker } = connection;
    const attempt = marker.nextAttempt();
    const ttlMs = CommitMarker.ttlMs(timeoutMs);
    const sentAt = performance.now();
    const mark = { name: 'set', args: [marker.keyIn(slot), attempt, 'PX', ttlMs] };
    const answer = this.connection.observer.roundTrip('EXEC', () =>
      multiExec(connection, [...commands, mark]),
    );
    return { connection, slot, attempt, ttlMs, sentAt, answer, isShared };
  }

  /**
   * What became of a transaction that was sent.
   *
   * @throws PartialCommitError when a command of it failed inside EXEC
   * @throws RedisReplyError when Redis refused a command of it at queue time: nothing was applied
   * @throws OutcomeUnknownError when EXEC was not answered, and Redis could not be asked by the deadline or its evidence is gone
   */
  async outcomeOf(sent: Sent, share: Share): Promise<CommitResult> {
    const { connection, slot } = sent;
    const { queued, from, deadline, durability } = share;
    let replies: unknown[] | null;
    try {
      const patience = Deadline.in(Math.min(EXEC_PATIENCE_MS, deadline.remainingMs / 2));
      replies = await patience.race(sent.answer, () => new Error('EXEC was not answered'));
    } catch (error) {
      if (!isConnectionLoss(error)) return refused(error as Error, sent.isShared);
      connection.discard();
      return await this.resolve(sent, share, error as Error);
    }
    if (replies === null) return { kind: 'conflict' };
    connection.marker.confirm(slot, sent.sentAt, sent.ttlMs);
    const result = applied(queued, replies.slice(from, from + queued.length));
    if (!durability) return result;
    const acknowledged = await replicasOf(connection.client, durability, patienceOf(durability));
    if (!isConnectionLoss(acknowledged.cause)) return { ...result, acknowledged };
    // Lost while it waited. What replicas have of it is asked where it is found by its marker.
    const found = await this.resolve(sent, share, acknowledged.cause as Error).catch(() => result);
    return found.kind === 'applied'
      ? { acknowledged, ...found, replies: result.replies }
      : { ...result, acknowledged };
  }

  /** The reply to EXEC was lost. Whether it was applied, or never will be, is decided from another connection. */
  private async resolve(
    { connection, slot, attempt, ttlMs }: Sent,
    { deadline, durability }: Share,
    cause: Error,
  ): Promise<CommitResult> {
    const marker = connection.marker.keyIn(slot);
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

function refused(error: Error, isShared: boolean): CommitResult {
  // It may be about a command of another one. By itself each will hear what is said of its own.
  if (isShared) return { kind: 'refused-together', cause: error };
  const final = finalRefusal(error);
  if (final) throw toReplyError(final, 'a command of the transaction, so none was applied', error);
  return { kind: 'not-applied', cause: refusalsOf(error)[0] };
}

function unknown(why: string, cause: Error): OutcomeUnknownError {
  return new OutcomeUnknownError(`The transaction was sent, its EXEC was not answered, ${why}`, { cause });
}
