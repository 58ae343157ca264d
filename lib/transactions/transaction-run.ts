import type { Outcome } from '../atomic-redis.errors.js';
import type { CommitParticipant } from '../scripting/commit-participant.js';
import { Deadline } from '../runtime/deadline.js';
import type { Lease } from './lease.js';
import { CancellationToken } from './cancellation-token.js';
import { MIN_SHARED_MS, type GroupCommit } from './group-commit.js';
import type { AttemptScope, TransactionAttempt } from './transaction-attempt.js';
import { TransactionTimeoutError } from './transaction.errors.js';
import type { ResolvedTransactionOptions } from './transaction.options.js';

/** The numbers of a transaction for its event. */
export interface TransactionTally {
  attempts: number;
  conflicts: number;
}

/** A transaction to be run. */
export interface TransactionRequest<T> {
  readonly keys: readonly string[];
  readonly slot: number;
  /** True if every key must lie in that slot. */
  readonly sameSlot: boolean;
  readonly work: (attempt: TransactionAttempt) => PromiseLike<T> | T;
  readonly options: ResolvedTransactionOptions;
  /** The participants that its EXEC commits beside its own writes. */
  readonly participants: readonly CommitParticipant[];
  /** Grows with each attempt. */
  readonly tally: TransactionTally;
  /**
   * True if it was called from inside another transaction, which must not be made to wait for
   * itself.
   */
  readonly isNested: boolean;
  /** The lease of the transaction around it, while that runs. */
  readonly parent: Lease | undefined;
}

/** One transaction, from its first attempt to its last. */
export class TransactionRun<T> implements AttemptScope {
  readonly keys: readonly string[];
  readonly slot: number;
  readonly sameSlot: boolean;
  readonly timeoutMs: number;
  readonly participants: readonly CommitParticipant[];
  readonly work: (attempt: TransactionAttempt) => PromiseLike<T> | T;
  readonly options: ResolvedTransactionOptions;
  readonly tally: TransactionTally;
  readonly isNested: boolean;
  readonly stop: CancellationToken;
  readonly deadline: Deadline;
  readonly parent: Lease | undefined;
  /**
   * By how much more time is kept for an answer than round trips tell. Doubled when that was too
   * little.
   */
  graceFactor = 1;
  /**
   * Outcome of the current attempt's EXEC: `unknown` from when it is sent until it is found out.
   */
  execOutcome: Outcome = 'not-applied';
  private isShareable: boolean;

  constructor(request: TransactionRequest<T>) {
    const { keys, slot, sameSlot, work, options, participants, tally, isNested, parent } = request;
    const { timeoutMs, signal, durability } = options;
    this.keys = keys;
    this.slot = slot;
    this.sameSlot = sameSlot;
    this.timeoutMs = timeoutMs;
    this.participants = participants;
    this.work = work;
    this.options = options;
    this.tally = tally;
    this.isNested = isNested;
    this.parent = parent;
    this.stop = new CancellationToken(timeoutMs, () => new TransactionTimeoutError(keys, timeoutMs), signal);
    this.deadline = Deadline.in(timeoutMs);
    this.isShareable = participants.length === 0 && !durability;
  }

  /** True if it may be committed by the EXEC of that group. */
  mayJoin({ isOpen, timeoutMs, endsBy }: GroupCommit): boolean {
    return (
      this.mayShare &&
      isOpen &&
      this.timeoutMs <= timeoutMs &&
      this.deadline.at >= endsBy &&
      !this.stop.isCancelled
    );
  }

  /** True if it may be committed together with others. */
  get mayShare(): boolean {
    return this.isShareable && this.deadline.remainingMs >= MIN_SHARED_MS;
  }

  shareNoMore(): void {
    this.isShareable = false;
  }
}
