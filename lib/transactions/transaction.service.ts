import { AsyncLocalStorage } from 'node:async_hooks';
import { Inject, Injectable } from '@nestjs/common';
import type { Redis } from 'ioredis';
import { OPTIONS } from '../atomic-redis.constants.js';
import { InvalidArgumentError, OutcomeUnknownError, RedisUnavailableError } from '../atomic-redis.errors.js';
import type { ResolvedOptions } from '../atomic-redis.options.js';
import * as check from '../atomic-redis.validation.js';
import { Deadline, fullJitter, sleep, untilAborted } from '../redis/deadline.js';
import { RedisConnection } from '../redis/redis-connection.js';
import { WorkInFlight } from '../redis/work-in-flight.js';
import { commit } from './commit.js';
import { ConnectionPools, type Lease } from './connection-pools.js';
import { KeyTurns } from './key-turns.js';
import { TransactionAttempt } from './transaction-attempt.js';
import {
  TransactionConflictError,
  TransactionMisuseError,
  TransactionTimeoutError,
} from './transaction.errors.js';
import {
  backoffChecks,
  backoffDefaults,
  type BackoffOptions,
  type TransactionModuleOptions,
} from './transaction.options.js';
import type { Transaction } from './transaction.js';

export interface TransactionOptions extends Pick<TransactionModuleOptions, 'maxAttempts' | 'timeoutMs'> {
  backoff?: BackoffOptions;
  /** Gives the transaction up, unless EXEC was already sent; the call rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Receives what EXEC answered, one value for each queued write, before the call resolves. */
  onReplies?: (replies: readonly unknown[]) => void;
}

const checkOptions = check.options({
  maxAttempts: check.integer(1, 1_000_000),
  timeoutMs: check.milliseconds(),
  backoff: check.options(backoffChecks),
  signal: check.instanceOf(AbortSignal),
  onReplies: check.func,
} satisfies Record<keyof TransactionOptions, check.Check>);

/** What one attempt came to, when it did not fail for good. */
type AttemptResult<T> =
  | { readonly done: true; readonly value: T }
  | { readonly done: false; readonly conflict: boolean; readonly cause?: Error };

/** One run of `work` to its end: everything its attempts share. */
interface Run<T> {
  readonly keys: readonly string[];
  readonly work: (tx: Transaction) => Promise<T> | T;
  readonly slot: number;
  readonly deadline: Deadline;
  readonly stop: AbortSignal;
  readonly onReplies: TransactionOptions['onReplies'];
}

/**
 * Optimistic transactions: WATCH, read, MULTI/EXEC, and again from the start when a watched key was changed meanwhile.
 * https://redis.io/docs/latest/develop/using-commands/transactions/#optimistic-locking-using-check-and-set
 */
@Injectable()
export class TransactionService {
  private readonly current = new AsyncLocalStorage<TransactionAttempt>();
  private readonly turns = new KeyTurns();
  private readonly pools: ConnectionPools;
  private readonly defaults: Required<TransactionModuleOptions>;

  constructor(
    private readonly connection: RedisConnection,
    private readonly inFlight: WorkInFlight,
    @Inject(OPTIONS) options: ResolvedOptions,
  ) {
    this.defaults = options.transactions;
    this.pools = new ConnectionPools(connection, {
      maxConnections: this.defaults.maxConnections,
      idleTimeoutMs: this.defaults.idleTimeoutMs,
      openTimeoutMs: options.timeoutMs,
    });
  }

  /**
   * Runs `work` so that its reads of `keys` and its writes take effect as one step. `work` runs once for each attempt: what it does outside
   * Redis is repeated with it. A call inside the work of another joins that one: its keys are watched too, and there is one commit.
   *
   * @returns what `work` returned, once its writes are applied
   * @throws whatever `work` throws, the same instance; nothing is written then
   * @throws TransactionConflictError when others kept changing the keys until `maxAttempts` or `timeoutMs`
   * @throws TransactionTimeoutError when `work` itself took longer than `timeoutMs`
   * @throws PartialCommitError when a queued command failed inside EXEC while the others were applied
   * @throws OutcomeUnknownError when EXEC was sent and its answer was lost
   * @throws CrossSlotError on a Cluster, before any I/O, when the keys do not share a hash slot
   */
  async run<T>(
    keys: readonly string[],
    work: (tx: Transaction) => Promise<T> | T,
    options: TransactionOptions = {},
  ): Promise<T> {
    if (!Array.isArray(keys) || keys.length === 0)
      throw new InvalidArgumentError('keys', 'a non-empty array', keys);
    keys.forEach((key, i) => check.key(`keys[${i}]`, key));
    check.func('work', work);
    checkOptions('options', options);

    const joined = this.current.getStore();
    if (joined) {
      await joined.watch(...keys);
      return await work(joined);
    }
    const slot = this.connection.isCluster ? this.connection.keys.commonSlotOf(keys) : 0;
    return await this.inFlight.track(() => this.runOutermost(keys, work, slot, options));
  }

  /** The transaction that the calling code runs in. @throws TransactionMisuseError outside of one */
  currentTransaction(): Transaction {
    const current = this.current.getStore();
    if (!current) {
      throw new TransactionMisuseError(
        'There is no open transaction: use it inside @OptimisticRetry() or TransactionService.run()',
      );
    }
    return current;
  }

  /** Closes the connections. Called by the module once nothing is in flight. */
  async close(): Promise<void> {
    await this.pools.close();
  }

  private async runOutermost<T>(
    keys: readonly string[],
    work: Run<T>['work'],
    slot: number,
    options: TransactionOptions,
  ): Promise<T> {
    const timeoutMs = options.timeoutMs ?? this.defaults.timeoutMs;
    const timedOut = new TransactionTimeoutError(keys, timeoutMs);
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(timedOut), timeoutMs);
    const stop = options.signal ? AbortSignal.any([options.signal, timeout.signal]) : timeout.signal;
    try {
      const run = { keys, work, slot, deadline: Deadline.in(timeoutMs), stop, onReplies: options.onReplies };
      return await this.attemptUntilDone(run, options, timedOut);
    } finally {
      clearTimeout(timer);
    }
  }

  private async attemptUntilDone<T>(run: Run<T>, options: TransactionOptions, timedOut: Error): Promise<T> {
    const startedAt = performance.now();
    const maxAttempts = options.maxAttempts ?? this.defaults.maxAttempts;
    const { minMs, maxMs } = { ...backoffDefaults, ...this.defaults.backoff, ...options.backoff };
    let conflicts = 0;
    let cause: Error | undefined;
    try {
      for (let attempt = 1; ; attempt++) {
        const result = await this.attemptInTurn(run, conflicts + 1);
        if (result.done) return result.value;
        cause = result.cause;
        if (result.conflict && ++conflicts >= maxAttempts) break;
        await sleep(fullJitter(attempt, minMs, maxMs), run.stop);
      }
    } catch (error) {
      if (error !== timedOut) throw error;
      if (conflicts === 0) throw cause ?? timedOut;
    }
    throw new TransactionConflictError(run.keys, conflicts, performance.now() - startedAt);
  }

  private async attemptInTurn<T>(run: Run<T>, attempt: number): Promise<AttemptResult<T>> {
    const turn = this.turns.take(run.keys);
    const endTurn = await untilAborted(turn, run.stop).catch((error: unknown) => {
      void turn.then((end) => end());
      throw error;
    });
    let lease: Lease | undefined;
    try {
      lease = await this.pools.lease(run.slot, run.deadline);
    } catch (error) {
      endTurn();
      if (error instanceof RedisUnavailableError) return retryAfter(error);
      throw error;
    }
    try {
      return await this.attemptOn(lease.client, run, attempt);
    } finally {
      lease.release();
      endTurn();
    }
  }

  private async attemptOn<T>(client: Redis, run: Run<T>, number: number): Promise<AttemptResult<T>> {
    if (client.status !== 'ready') return retryAfter(this.connection.unavailable());
    const attempt = new TransactionAttempt(client, this.connection, run.slot, run.keys, number, run.stop);
    let value: T;
    try {
      value = await untilAborted(
        this.current.run(attempt, async () => run.work(attempt)),
        run.stop,
      );
      attempt.end();
      await untilAborted(attempt.watching, run.stop);
    } catch (error) {
      attempt.end();
      this.forgetWatches(client, run.stop);
      if (error === attempt.failure) return await this.retryElsewhere(attempt.failure as Error);
      throw error;
    }
    if (attempt.failure) return await this.retryElsewhere(attempt.failure);
    if (attempt.queued.length === 0) {
      this.forgetWatches(client, run.stop);
      return { done: true, value };
    }
    // In the same tick as EXEC is written: the connection that watched is still the one that commits.
    if (client.status !== 'ready') return retryAfter(this.connection.unavailable());
    const result = await commit(client, attempt.queued, run.deadline).catch((error: unknown) => {
      if (error instanceof OutcomeUnknownError) client.disconnect();
      throw error;
    });
    if (result.kind === 'conflict') return { done: false, conflict: true };
    if (result.kind === 'refused') return await this.retryElsewhere(result.cause);
    run.onReplies?.(result.replies);
    return { done: true, value };
  }

  /** Leaves the connection fit for the next transaction without waiting for it; one that is stuck is thrown away. */
  private forgetWatches(client: Redis, stop: AbortSignal): void {
    if (stop.aborted) client.disconnect();
    else client.unwatch().catch(() => client.disconnect());
  }

  private async retryElsewhere(cause: Error): Promise<AttemptResult<never>> {
    await this.connection.refreshTopology();
    return retryAfter(cause);
  }
}

const retryAfter = (cause: Error): AttemptResult<never> => ({ done: false, conflict: false, cause });
