import { AtomicRedisError, NotReplicatedError, RedisUnavailableError } from '../atomic-redis.errors.js';
import type { CommitParticipant, QueuedCommand } from '../redis/commit-participant.js';
import { Deadline, fullJitter, sleep } from '../redis/deadline.js';
import type { RedisConnection } from '../redis/redis-connection.js';
import type { WorkInFlight } from '../redis/work-in-flight.js';
import type { Committer, CommitResult } from './commit.js';
import type { ConnectionPools, Lease } from './connection-pools.js';
import { execReplies } from './exec-replies.js';
import { KeyTurns } from './key-turns.js';
import { Stop } from './stop.js';
import { TransactionAttempt } from './transaction-attempt.js';
import { RepliesLostError, TransactionConflictError, TransactionTimeoutError } from './transaction.errors.js';
import type { ResolvedTransactionOptions } from './transaction.options.js';

/** What one attempt came to, when it did not fail for good. */
type AttemptResult<T> =
  | {
      readonly done: true;
      readonly value: T;
      /** What the caller is told of a transaction that was applied all the same. */
      readonly failure?: Error;
    }
  | { readonly done: false; readonly conflict: boolean; readonly cause?: Error };

/** What of a transaction its event tells. */
export interface TransactionTally {
  attempts: number;
  conflicts: number;
}

/** A transaction to be run. */
export interface TransactionRequest<T> extends Omit<ResolvedTransactionOptions, 'propagation'> {
  readonly keys: readonly string[];
  readonly slot: number;
  readonly sameSlot: boolean;
  readonly work: (attempt: TransactionAttempt) => PromiseLike<T> | T;
  /** What its EXEC commits beside its own writes. */
  readonly participant: CommitParticipant | undefined;
  /** Is counted up as it goes on. */
  readonly tally: TransactionTally;
  /** Whether it was called from inside another transaction, which must not be made to wait for itself. */
  readonly isNested: boolean;
}

/** One transaction to its end. */
interface Run<T> extends TransactionRequest<T> {
  readonly stop: Stop;
  readonly deadline: Deadline;
}

/** Runs attempts of a transaction until one is committed, fails for good, or the attempts or the time run out. */
export class TransactionRunner {
  private readonly turns = new KeyTurns();
  private readonly running = new Set<Stop>();

  constructor(
    private readonly connection: RedisConnection,
    private readonly pools: ConnectionPools,
    private readonly committer: Committer,
    private readonly inFlight: WorkInFlight,
  ) {}

  async run<T>(request: TransactionRequest<T>): Promise<T> {
    const { keys, timeoutMs, signal, maxAttempts, backoff, tally } = request;
    const startedAt = performance.now();
    const stop = new Stop(timeoutMs, () => new TransactionTimeoutError(keys, timeoutMs), signal);
    const run: Run<T> = { ...request, stop, deadline: Deadline.in(timeoutMs) };
    let cause: Error | undefined;
    this.inFlight.enter();
    this.running.add(stop);
    try {
      for (let attempt = 1; ; attempt++) {
        const result = await this.attemptInTurn(run, tally.conflicts + 1);
        if (result.done && result.failure) throw result.failure;
        if (result.done) return result.value;
        cause = result.cause;
        if (result.conflict && ++tally.conflicts >= maxAttempts) break;
        await sleep(fullJitter(attempt, backoff.minMs, backoff.maxMs), stop.signal);
      }
    } catch (error) {
      if (!stop.isTimedOut || error !== stop.reason) throw error;
      if (tally.conflicts === 0) throw this.whyNot(cause) ?? error;
    } finally {
      stop.end();
      this.running.delete(stop);
      this.inFlight.leave();
    }
    throw new TransactionConflictError(keys, tally.conflicts, performance.now() - startedAt);
  }

  /** Gives up what still runs, with a ModuleClosedError, and closes the connections. */
  async close(): Promise<void> {
    for (const stop of this.running) stop.stop(this.connection.closedError());
    await this.pools.close();
  }

  /** Why no attempt could be made until the time was over. The last reason may be an error of the client or a refusal as Redis words it. */
  private whyNot(cause: Error | undefined): AtomicRedisError | undefined {
    return !cause || cause instanceof AtomicRedisError ? cause : this.connection.unavailable(cause);
  }

  private async attemptInTurn<T>(run: Run<T>, number: number): Promise<AttemptResult<T>> {
    const endTurn = await this.turn(run);
    let lease: Lease | undefined;
    try {
      lease = await this.lease(run);
      return await this.attemptOn(lease, run, number, endTurn);
    } catch (error) {
      // Without a lease the error is ours; with one it is for the caller.
      if (!lease && error instanceof RedisUnavailableError)
        return await this.againElsewhere(error, run.deadline);
      throw error;
    } finally {
      lease?.release();
      endTurn();
    }
  }

  private turn({ keys, isNested, stop }: Run<unknown>): (() => void) | Promise<() => void> {
    stop.throwIfStopped();
    const turn = isNested ? () => undefined : this.turns.take(keys);
    if (!(turn instanceof Promise)) return turn;
    return stop.until(turn).catch((error: unknown) => {
      void turn.then((end) => end());
      throw error;
    });
  }

  private lease({ slot, deadline, isNested, stop }: Run<unknown>): Lease | Promise<Lease> {
    const { observer } = this.connection;
    const askedAt = performance.now();
    const free = this.pools.take(slot);
    const waited = <L>(lease: L): L => {
      observer.poolWaited(askedAt);
      return lease;
    };
    return free ? waited(free) : this.pools.lease(slot, deadline, isNested, stop).then(waited);
  }

  private attemptOn<T>(
    lease: Lease,
    run: Run<T>,
    number: number,
    endTurn: () => void,
  ): Promise<AttemptResult<T>> {
    const { participant } = run;
    return participant
      ? this.attemptFor(participant, lease, run, number, endTurn)
      : this.attemptWith(lease, run, number, endTurn);
  }

  private async attemptFor<T>(
    participant: CommitParticipant,
    lease: Lease,
    run: Run<T>,
    number: number,
    endTurn: () => void,
  ): Promise<AttemptResult<T>> {
    try {
      await participant.begin(run.deadline);
    } catch (error) {
      if (error instanceof RedisUnavailableError) return await this.againElsewhere(error, run.deadline);
      throw error;
    }
    let result: AttemptResult<T> | undefined;
    try {
      result = await this.attemptWith(lease, run, number, endTurn);
    } finally {
      const { touched } = participant.end(result?.done ?? false);
      // The participant's own touch made EXEC refuse: nobody else's change, so no attempt of the caller's.
      if (touched && result && !result.done && result.conflict)
        result = again(new Error('the lease was renewed meanwhile'));
    }
    return result;
  }

  private async attemptWith<T>(
    lease: Lease,
    run: Run<T>,
    number: number,
    endTurn: () => void,
  ): Promise<AttemptResult<T>> {
    const { stop } = run;
    stop.throwIfStopped();
    if (!lease.connection.isReady) return again(this.connection.unavailable());
    run.tally.attempts++;
    const attempt = new TransactionAttempt(lease.connection, this.connection, run, number);
    let value: T;
    try {
      value = await stop.until(Promise.resolve(run.work(attempt)));
      attempt.end();
      if (attempt.watching) await stop.until(attempt.watching);
    } catch (error) {
      attempt.end();
      lease.forgetWatches(stop.isStopped);
      if (attempt.failure && error === attempt.failure)
        return await this.againElsewhere(attempt.failure, run.deadline);
      throw error;
    }
    if (attempt.failure) return await this.againElsewhere(attempt.failure, run.deadline);
    const accompanying = run.participant?.writes(run.completesRun?.(value)) ?? [];
    if (attempt.queued.length + accompanying.length === 0 && !run.validateReads) {
      lease.forgetWatches(stop.isStopped);
      return { done: true, value };
    }
    // In the same tick as EXEC is written: the connection that watched is still the one that commits.
    if (!lease.connection.isReady) return again(this.connection.unavailable());
    const committed = await this.commit(lease, run, attempt.queued, accompanying, endTurn);
    if (committed.kind === 'conflict') return { done: false, conflict: true };
    if (committed.kind === 'not-applied') return await this.againElsewhere(committed.cause, run.deadline);
    return applied(run, attempt, value, committed);
  }

  private commit(
    lease: Lease,
    { slot, timeoutMs, deadline, durability }: Run<unknown>,
    queued: readonly QueuedCommand[],
    accompanying: readonly QueuedCommand[],
    endTurn: () => void,
  ): Promise<CommitResult> {
    return this.committer.commit({
      lease,
      onWritten: () => {
        // In this order: the next in turn comes to this connection, so that its WATCH stands behind this EXEC.
        lease.handOn();
        endTurn();
      },
      slot,
      queued,
      accompanying,
      timeoutMs,
      deadline,
      durability,
    });
  }

  private async againElsewhere(cause: Error, deadline: Deadline): Promise<AttemptResult<never>> {
    await this.connection.refreshTopology(deadline);
    return again(cause);
  }
}

/** Tells those who asked for it what EXEC answered. */
function applied<T>(
  run: Run<T>,
  attempt: TransactionAttempt,
  value: T,
  { replies, acknowledged }: CommitResult & { kind: 'applied' },
): AttemptResult<T> {
  if (replies === null && (run.requireReplies || attempt.requireReplies))
    return { done: true, value, failure: new RepliesLostError(run.keys) };
  attempt.committed(replies);
  run.onReplies?.(execReplies(replies, 0, attempt.queued.length));
  const { durability } = run;
  if (!durability || !acknowledged || acknowledged.replicas >= durability.replicas)
    return { done: true, value };
  const { replicas, cause } = acknowledged;
  const failure = new NotReplicatedError('A transaction', durability.replicas, replicas, value, { cause });
  return { done: true, value, failure };
}

const again = (cause: Error): AttemptResult<never> => ({ done: false, conflict: false, cause });
