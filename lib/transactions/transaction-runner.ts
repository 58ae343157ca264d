import { AtomicRedisError, RedisUnavailableError } from '../atomic-redis.errors.js';
import { fullJitter, sleep } from '../runtime/deadline.js';
import { IntrusiveSet } from '../runtime/intrusive-set.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { WorkInFlight } from '../runtime/work-in-flight.js';
import type { AttemptResult } from './attempt-result.js';
import { AttemptRunner } from './attempt-runner.js';
import type { Committer } from './commit.js';
import type { ConnectionPools } from './connection-pools.js';
import type { GroupCommit } from './group-commit.js';
import { ALONE, KeyedQueueLock, type LockSlot } from './keyed-queue-lock.js';
import type { Lease } from './lease.js';
import type { CancellationToken } from './cancellation-token.js';
import { TransactionConflictError } from './transaction.errors.js';
import { TransactionRun, type TransactionRequest } from './transaction-run.js';

/**
 * A timed-out transaction names the failure of its last attempt if that is at most this old, plus a
 * pause, in milliseconds.
 */
const RECENT_MS = 100;

/**
 * Runs attempts of a transaction until one is committed, fails for good, or the attempts or the
 * time run out.
 */
export class TransactionRunner {
  private readonly turns = new KeyedQueueLock<GroupCommit>();
  private readonly attempts: AttemptRunner;
  private readonly running = new IntrusiveSet<CancellationToken>();

  constructor(
    private readonly connection: RedisConnection,
    private readonly pools: ConnectionPools,
    committer: Committer,
    private readonly inFlight: WorkInFlight,
  ) {
    this.attempts = new AttemptRunner(connection, committer);
  }

  async run<T>(request: TransactionRequest<T>): Promise<T> {
    const startedAt = performance.now();
    const run = new TransactionRun(request);
    const { keys, stop, tally } = run;
    const { maxAttempts, backoff } = run.options;
    let cause: Error | undefined;
    let causedAt = startedAt;
    this.inFlight.enter();
    this.running.add(stop);
    try {
      for (let attempt = 1; ; attempt++) {
        const result = await this.attemptInTurn(run);
        if (result.done && result.failure) throw result.failure;
        if (result.done) return result.value;
        cause = result.cause;
        causedAt = performance.now();
        if (result.conflict && ++tally.conflicts >= maxAttempts) break;
        await sleep(fullJitter(attempt, backoff.minMs, backoff.maxMs), stop.signal);
      }
    } catch (error) {
      if (!stop.isTimedOut || error !== stop.reason) throw error;
      // An older one is not what the time was lost with.
      if (cause && performance.now() - causedAt < backoff.maxMs + RECENT_MS) throw this.whyNot(cause);
      if (tally.conflicts === 0) throw error;
    } finally {
      stop.end();
      this.running.delete(stop);
      this.inFlight.leave();
    }
    throw new TransactionConflictError(keys, tally.conflicts, performance.now() - startedAt);
  }

  /** Gives up what still runs, with a ModuleClosedError, and closes the connections. */
  async close(): Promise<void> {
    for (const stop of this.running) stop.cancel(this.connection.closedError());
    await this.pools.close();
  }

  /**
   * Why no attempt could be made until the time was over. The last reason may be an error of the
   * client or a refusal as Redis words it.
   */
  private whyNot(cause: Error): AtomicRedisError {
    return cause instanceof AtomicRedisError ? cause : this.connection.unavailable(cause);
  }

  private async attemptInTurn<T>(run: TransactionRun<T>): Promise<AttemptResult<T>> {
    const turn = await this.turn(run);
    if (turn.part) return await this.attempts.follow(turn.part, run, turn);
    let lease: Lease | undefined;
    try {
      lease = await this.lease(run);
      return await this.attempts.lead(lease, run, turn);
    } catch (error) {
      // Without a lease the error is ours; with one it is for the caller.
      if (!lease && error instanceof RedisUnavailableError)
        return await this.attempts.againElsewhere(error, run.deadline);
      throw error;
    } finally {
      lease?.release();
      turn.end();
    }
  }

  private turn(run: TransactionRun<unknown>): LockSlot<GroupCommit> | Promise<LockSlot<GroupCommit>> {
    const { keys, isNested, stop } = run;
    stop.throwIfCancelled();
    if (isNested) return ALONE;
    const turn = this.turns.take(keys, (group) => run.mayJoin(group));
    // If the caller has stopped waiting, end the late turn immediately.
    return turn instanceof Promise ? stop.until(turn, (late) => late.end()) : turn;
  }

  private lease({ slot, deadline, parent, stop }: TransactionRun<unknown>): Lease | Promise<Lease> {
    const { observer } = this.connection;
    const askedAt = performance.now();
    const free = this.pools.take(slot, parent);
    const waited = <L>(lease: L): L => {
      observer.poolWaited(askedAt);
      return lease;
    };
    return free ? waited(free) : this.pools.lease(slot, deadline, parent, stop).then(waited);
  }
}
