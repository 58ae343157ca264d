import { Inject, Injectable, Logger } from '@nestjs/common';
import { OPTIONS } from '../atomic-redis.constants.js';
import {
  CrossSlotError,
  InvalidArgumentError,
  IllegalTransactionStateError,
} from '../atomic-redis.errors.js';
import type { ResolvedOptions } from '../atomic-redis.options.js';
import * as check from '../atomic-redis.validation.js';
import { Observer } from '../observability/observer.js';
import type { CommitParticipant } from '../scripting/commit-participant.js';
import {
  runInTransactionScope,
  openTransactionScope,
  Propagation,
  transactionScopeOf,
} from '../runtime/transaction-scope.js';
import { RedisConnection } from '../connection/redis-connection.js';
import { ScriptRunner } from '../scripting/script-runner.js';
import { WorkInFlight } from '../runtime/work-in-flight.js';
import { Committer } from './commit.js';
import { ConnectionPools, type PoolStatus } from './connection-pools.js';
import { UnavailableUntilExec } from './exec-replies.js';
import { handled } from './handled.js';
import { checkJoinOptions, JoinedTransaction } from './joined-transaction.js';
import { OpenTransaction } from './open-transaction.js';
import { enlist, participantsOf } from './participants.js';
import { assertFewKeys } from './transaction-attempt.js';
import {
  checkTransactionOptions,
  resolveTransactionOptions,
  type ResolvedTransactionModuleOptions,
  type TransactionOptions,
} from './transaction.options.js';
import type { TransactionTally } from './transaction-run.js';
import { TransactionRunner } from './transaction-runner.js';
import type { Transaction } from './transaction.js';

const logger = new Logger('TransactionService');

const NONE: TransactionOptions = {};

/**
 * Optimistic transactions: WATCH, read, MULTI/EXEC, and again from the start when a watched key was
 * changed meanwhile.
 * https://redis.io/docs/latest/develop/using-commands/transactions/#optimistic-locking-using-check-and-set
 */
@Injectable()
export class TransactionService {
  private readonly pools: ConnectionPools;
  private readonly runner: TransactionRunner;
  private readonly defaults: ResolvedTransactionModuleOptions;

  /** @internal */
  constructor(
    private readonly connection: RedisConnection,
    scripts: ScriptRunner,
    inFlight: WorkInFlight,
    private readonly observer: Observer,
    @Inject(OPTIONS) options: ResolvedOptions,
  ) {
    this.defaults = options.transactions;
    const pools = { ...options.transactions, openTimeoutMs: options.timeoutMs };
    this.pools = new ConnectionPools(connection, pools);
    this.runner = new TransactionRunner(connection, this.pools, new Committer(connection, scripts), inFlight);
  }

  /**
   * Runs `work` so that its reads of `keys` and its writes take effect as one step. `work` runs
   * once for each attempt: what it does outside Redis is repeated with it. A call inside the work
   * of another joins that one, unless `propagation` is `new`: its keys are watched too, there is
   * one commit, and attempts and time are those of the transaction around it. When its work throws,
   * its writes are dropped, and no other's. Keys and arguments are copied.
   *
   * @returns what `work` returned, once its writes are applied
   * @throws whatever `work` throws, the same instance; nothing is written then
   * @throws TransactionConflictError when others kept changing the keys until `maxAttempts` or
   * `timeoutMs`
   * @throws TransactionTimeoutError when `work` was not done in time for its writes to be applied
   * within `timeoutMs`
   * @throws ConfigurationError before anything is sent, when Redis refuses MULTI, EXEC, DISCARD or
   * WATCH, or does not refuse an EXEC that is late
   * @throws IllegalTransactionStateError for an option that a transaction inside of another one
   * cannot have
   * @throws PartialCommitError when a queued command failed inside EXEC while the others were
   * applied, or MULTI was refused and they were done one by one
   * @throws RepliesLostError with `requireReplies`, when the writes were applied and what EXEC
   * answered was lost
   * @throws OutcomeUnknownError when EXEC was sent, its answer was lost, and Redis could not be
   * asked what became of it by the deadline
   * @throws LeaseLostError with `permit`, when the permit was lost; nothing was applied
   * @throws CrossSlotError on a Cluster, before any I/O, when the keys do not share a hash slot
   */
  run<T>(
    keys: readonly string[],
    work: (tx: Transaction) => Promise<T> | T,
    options: TransactionOptions<NoInfer<T>> = NONE,
  ): Promise<T> {
    // The caller may change its array before the keys are sent.
    const ownKeys = Array.isArray(keys) ? keys.slice() : keys;
    const outer = openPartOf(this.innermost());
    // Work that was started inside a transaction may outlive it; then this is a transaction of its
    // own.
    const running =
      outer && options?.propagation !== Propagation.New
        ? this.join(outer, ownKeys, work, options)
        : this.observe(ownKeys, work, options);
    if (isPartOfItsSurroundings(options)) enlist(running, options);
    // A work need not wait for what it has begun.
    return outer ? handled(running) : running;
  }

  /**
   * Finds out while the application starts whether the servers can run transactions; logs it where
   * they cannot, and nothing needs them.
   * @throws ConfigurationError where a method with `@OptimisticRetry` needs them
   * @internal
   */
  async verify(isNeeded: () => boolean): Promise<void> {
    const problem = await this.pools.servers.problem();
    if (!problem) return;
    if (isNeeded()) throw problem;
    logger.warn(`${problem.message}. TransactionService.run() will reject`);
  }

  /**
   * The transaction that the calling code runs in.
   * @throws IllegalTransactionStateError outside of one. @internal
   */
  currentTransaction(): Transaction {
    const current = this.innermost();
    if (!current) {
      throw new IllegalTransactionStateError(
        'There is no open transaction: use it inside @OptimisticRetry() or TransactionService.run()',
      );
    }
    return current;
  }

  /** The connections that transactions take turns on. @internal */
  get pool(): PoolStatus {
    return this.pools.status;
  }

  /** Closes the connections. Called by the module once nothing is in flight. @internal */
  async close(): Promise<void> {
    await this.runner.close();
  }

  private async observe<T>(
    keys: readonly string[],
    work: (tx: Transaction) => Promise<T> | T,
    options: TransactionOptions,
  ): Promise<T> {
    const tally: TransactionTally = { attempts: 0, conflicts: 0 };
    return await this.observer.operation(
      'transactions.run',
      () => {
        checkArguments(keys, work, options);
        return this.runOwn(keys, work, options, tally);
      },
      { details: () => tally },
    );
  }

  private async join<T>(
    outer: OpenTransaction,
    keys: readonly string[],
    work: (tx: Transaction) => Promise<T> | T,
    options: TransactionOptions,
  ): Promise<T> {
    checkArguments(keys, work, options);
    checkJoinOptions(options);
    const joined = new JoinedTransaction(outer, options);
    return await outer.track(joined.run(keys, () => this.inContext(joined, work)));
  }

  private runOwn<T>(
    keys: readonly string[],
    work: (tx: Transaction) => Promise<T> | T,
    options: TransactionOptions,
    tally: TransactionTally,
  ): Promise<T> {
    const participants = participantsOf(options, this.connection);
    const sameSlot = this.connection.isCluster || this.defaults.requireSameSlot;
    const slot = sameSlot ? this.commonSlot(keys, participants) : 0;
    const around = openTransactionScope();
    return this.runner.run({
      keys,
      slot,
      sameSlot,
      work: (attempt) => this.inContext(attempt, work),
      options: options === NONE ? this.defaults : resolveTransactionOptions(this.defaults, options),
      participants,
      tally,
      isNested: around !== undefined,
      parent: around instanceof OpenTransaction ? around.lease : undefined,
    });
  }

  private inContext<T>(
    transaction: OpenTransaction,
    work: (tx: Transaction) => Promise<T> | T,
  ): Promise<T> | T {
    const value = runInTransactionScope(this, transaction, () => work(transaction));
    // Returned by an expression such as (tx) => tx.write.incr(key): it stands for no value.
    return value instanceof UnavailableUntilExec ? (undefined as T) : value;
  }

  private commonSlot(keys: readonly string[], participants: readonly CommitParticipant[]): number {
    const slot = this.connection.keys.commonSlotOf(keys);
    for (const { keys: own, unwatchedKeys = [], colocation } of participants) {
      const all = [...keys, ...own, ...unwatchedKeys];
      const slots = all.map((key) => this.connection.keys.slotOf(key));
      if (slots.some((one) => one !== slot)) throw new CrossSlotError(all, slots, colocation);
    }
    return slot;
  }

  /** The innermost transaction that the calling code was started in; it may have ended. */
  private innermost(): OpenTransaction | undefined {
    return transactionScopeOf(this) as OpenTransaction | undefined;
  }
}

const isPartOfItsSurroundings = (options: TransactionOptions | undefined): boolean =>
  (options?.completesRun ?? options?.completesStep ?? options?.completesJob) !== undefined;

/** The innermost that is open, of a transaction and those that it has joined. */
function openPartOf(transaction: OpenTransaction | undefined): OpenTransaction | undefined {
  let part = transaction;
  while (part && !part.isOpen) part = part.outer;
  return part;
}

function checkArguments(keys: unknown, work: unknown, options: TransactionOptions): void {
  if (!Array.isArray(keys) || keys.length === 0)
    throw new InvalidArgumentError('keys', 'a non-empty array', keys);
  // Not by forEach, which skips the holes of a sparse array.
  for (let i = 0; i < keys.length; i++) check.key(`keys[${i}]`, keys[i]);
  assertFewKeys('keys.length', keys.length);
  check.func('work', work);
  checkTransactionOptions('options', options);
}
