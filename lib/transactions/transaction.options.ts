import { InvalidArgumentError } from '../atomic-redis.errors.js';
import {
  boolean,
  func,
  instanceOf,
  integer,
  oneOf,
  options,
  waitMs,
  withDefaults,
  type Check,
} from '../atomic-redis.validation.js';
import { participantOf } from '../scripting/commit-participant.js';
import type { CompletableJob } from '../scripting/completable-job.js';
import type { ExecReplies } from './exec-replies.js';
import { checkDurability, copyDurability, type DurabilityOptions } from '../connection/durability.js';
import { checkPermit, type PermitReference } from '../leases/permit.js';
import { Propagation } from '../runtime/transaction-scope.js';

/**
 * Full-jitter backoff between attempts: a random delay between `minMs` and a ceiling, which doubles
 * with each attempt up to `maxMs`. @inline
 */
export interface BackoffOptions {
  /** Shortest delay, in milliseconds. 0 retries at once. @default 1 */
  minMs?: number;
  /** Longest delay, in milliseconds. @default 200 */
  maxMs?: number;
}

/** Defaults of `TransactionService`, as the module's `transactions` option. @inline */
export interface TransactionModuleOptions {
  /**
   * Connections for transactions, to each server, at the most; further transactions wait their
   * turn. @default 10
   */
  maxConnections?: number;
  /** A connection unused this long is closed, in milliseconds. @default 30000 */
  idleTimeoutMs?: number;
  /** Attempts in conflict before a `TransactionConflictError`, the deadline permitting. @default 50 */
  maxAttempts?: number;
  /**
   * Time for all attempts together, in milliseconds; nothing takes effect later. Two answers' time
   * is kept free, 100 ms at least: with less than that a transaction fails at once. @default 10000
   */
  timeoutMs?: number;
  /** Delay before each further attempt. */
  backoff?: BackoffOptions;
  /**
   * Refuse keys in different hash slots on a standalone server too, as a Cluster would.
   * @default false
   */
  requireSameSlot?: boolean;
  /**
   * Wait until replicas have what was applied; else the call rejects with a `NotReplicatedError`
   * that holds its result. False does not wait. Default: the module's `durability`, else no wait.
   */
  durability?: DurabilityOptions | false;
}

const backoffDefaults: Required<BackoffOptions> = { minMs: 1, maxMs: 200 };

export interface ResolvedTransactionModuleOptions extends Required<
  Omit<TransactionModuleOptions, 'durability'>
> {
  backoff: Required<BackoffOptions>;
  durability: DurabilityOptions | undefined;
}

const transactionDefaults: ResolvedTransactionModuleOptions = {
  maxConnections: 10,
  idleTimeoutMs: 30_000,
  maxAttempts: 50,
  timeoutMs: 10_000,
  requireSameSlot: false,
  backoff: backoffDefaults,
  durability: undefined,
};

const backoffChecks: Record<keyof BackoffOptions, Check> = {
  minMs: waitMs(0),
  maxMs: waitMs(),
};

export const transactionOptionChecks: Record<keyof TransactionModuleOptions, Check> = {
  maxConnections: integer(1, 10_000),
  idleTimeoutMs: waitMs(),
  maxAttempts: integer(1, 1_000_000),
  timeoutMs: waitMs(),
  backoff: options(backoffChecks),
  requireSameSlot: boolean,
  durability: checkDurability,
};

/** @param all the module's own, for what waits for replicas */
export function resolveTransactionModuleOptions(
  given: TransactionModuleOptions | undefined,
  all: DurabilityOptions | undefined,
): ResolvedTransactionModuleOptions {
  const { backoff, durability = all, ...rest } = given ?? {};
  return {
    ...withDefaults(transactionDefaults, rest),
    backoff: withDefaults(backoffDefaults, backoff),
    durability: copyDurability(durability),
  };
}

/** Options of one transaction. */
export interface TransactionOptions<Result = unknown> extends Pick<
  TransactionModuleOptions,
  'maxAttempts' | 'timeoutMs' | 'backoff' | 'durability'
> {
  /**
   * Gives the transaction up, unless EXEC was already sent; the call rejects with the signal's
   * reason.
   */
  signal?: AbortSignal;
  /**
   * Receives the replies of EXEC, one for each queued write (`replies.of(write)` has its type),
   * before the call resolves. Receives null when the writes were applied but the replies were lost
   * with the connection; it is then not known whether a command failed inside that EXEC.
   */
  onReplies?: (replies: ExecReplies | null) => void;
  /**
   * Throw a `RepliesLostError` instead of resolving when the writes were applied but the answer was
   * lost. @default false
   */
  requireReplies?: boolean;
  /**
   * When the work queues no write, check all the same that nothing it read was changed until it was
   * done, and run it again if so. One round trip more. @default false
   */
  validateReads?: boolean;
  /**
   * Inside another transaction: `'join'` makes it a part of that one, `'new'` a transaction of its
   * own. A part cannot have `timeoutMs`, `maxAttempts`, `backoff`, `durability`, `completesRun`,
   * `completesStep`, `completesJob` or `permit`.
   * @default 'join'
   */
  propagation?: `${Propagation.Join | Propagation.New}`;
  /**
   * Commits the idempotent run that the transaction is part of by its own EXEC, once per run: its
   * effects and the record of the run are one step. Returns the value that a later call with the
   * same idempotency key gets if this process does not live to store the result; undefined for
   * none.
   */
  completesRun?: { of(result: Result): unknown }['of'];
  /**
   * Keeps the result of the step (`run.step`) that the transaction is part of by its own EXEC, once
   * per step: its effects and the step's result are one. Returns that result, which the step gives
   * in this attempt and in later ones. Not together with `completesRun`.
   */
  completesStep?: { of(result: Result): unknown }['of'];
  /**
   * Acknowledges the job by the transaction's own EXEC: its effects, its end and the jobs that
   * `tx.push` adds are one step. A delivery whose lease was lost has no effect: the transaction is
   * refused with a `LeaseLostError`. Meanwhile the job's own `ack`, `retry` and `extend` are
   * refused. The lease is prolonged beyond the transaction's time-out, where it would end before.
   */
  completesJob?: CompletableJob;
  /**
   * Applies the writes only while this permit is held: Redis itself refuses them once it was lost.
   * `'current'` is the innermost permit that the calling code runs under. The lease is prolonged to
   * outlast the transaction.
   */
  permit?: PermitReference;
}

const job: Check = (path, value) => {
  if (!participantOf(value)) throw new InvalidArgumentError(path, 'a job that was taken from a queue', value);
};

/** The checks of options that a call and the decorator take alike. */
export const commonOptionChecks = {
  maxAttempts: transactionOptionChecks.maxAttempts,
  timeoutMs: transactionOptionChecks.timeoutMs,
  backoff: transactionOptionChecks.backoff,
  durability: checkDurability,
  requireReplies: boolean,
  validateReads: boolean,
  propagation: oneOf(Propagation.Join, Propagation.New),
  completesRun: func,
  completesStep: func,
};

export const checkTransactionOptions = options({
  ...commonOptionChecks,
  signal: instanceOf(AbortSignal),
  onReplies: func,
  completesJob: job,
  permit: checkPermit,
} satisfies Record<keyof TransactionOptions, Check>);

export interface ResolvedTransactionOptions extends Omit<TransactionOptions, 'durability'> {
  durability: DurabilityOptions | undefined;
  maxAttempts: number;
  timeoutMs: number;
  backoff: Required<BackoffOptions>;
}

export function resolveTransactionOptions(
  { maxAttempts, timeoutMs, backoff, durability }: ResolvedTransactionModuleOptions,
  given: TransactionOptions,
): ResolvedTransactionOptions {
  return {
    ...given,
    maxAttempts: given.maxAttempts ?? maxAttempts,
    timeoutMs: given.timeoutMs ?? timeoutMs,
    durability: copyDurability(given.durability ?? durability),
    backoff: given.backoff ? withDefaults(backoff, given.backoff) : backoff,
  };
}
