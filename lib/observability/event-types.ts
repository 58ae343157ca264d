import type { Outcome } from '../atomic-redis.errors.js';

/**
 * The calls that are one scripted operation each. The registry of operations does not compile
 * unless these are the types of its definitions. They are listed here, so that the types that users
 * get do not carry the definitions. @inline
 */
type Scripted =
  | `reservations.${'hold' | 'confirm' | 'release' | 'extend' | 'list'}`
  | `values.${'compareAndSet' | 'compareAndDelete' | 'compareAndSetField' | 'compareAndDeleteField'}`
  | `values.${'getAndSet' | 'getAndDelete' | 'getAndExpire'}`
  | `auditedHashes.${'set' | 'delete' | 'update' | 'history'}`
  | `transfers.${'transfer' | 'transferAll'}`
  | 'lists.move'
  | `limits.${'peek' | 'reset' | 'reserve' | 'settle'}`;

/**
 * One call of a service, as `<field of the façade>.<method>`; what differs only in the type of its
 * result has one name. @inline
 */
type Operation =
  | Scripted
  | 'transactions.run'
  | `idempotency.${'inspect' | 'forget' | 'held' | 'settle'}`
  | `counters.${'add' | 'addAll' | 'undo' | 'get' | 'reset'}`
  | 'limits.take'
  | `transfers.${'acrossSlots' | 'pending' | 'recover'}`
  | 'scripts.run'
  | `shadowKeys.${'replace' | 'replaceAll' | 'rollback'}`
  | `queues.${'push' | 'pushMany' | 'take' | 'process' | 'counts'}`
  | `queues.${'ack' | 'ackAndTakeNext' | 'retry' | 'extend'}`
  | `queues.${'listDead' | 'requeueDead' | 'purgeDead'}`
  | `permits.${'acquire' | 'tryAcquire' | 'release'}`;

/** @inline */
type OfRegistration = {
  /** The name of the registration. */
  readonly registration: string;
};

/** The end of an operation. Exactly one for each. Never holds a key or a value. @inline */
type OperationEnded = OfRegistration & {
  /** The name of the queue or of the script. Other operations have none. */
  readonly name?: string;
  /**
   * Says whether it changed anything in Redis, in the words of errors. A call that only read, was
   * refused, or found nothing to do is `not-applied`.
   */
  readonly outcome: Outcome;
  /**
   * The error of the call or of the work that it ran: its `code`, or the name of its class if it is
   * not the library's. Absent if nothing was thrown.
   */
  readonly error?: string;
  /** In milliseconds. */
  readonly durationMs: number;
};

/** The end of a transaction. One that joined another is part of that one. @inline */
type TransactionEnded = OperationEnded & {
  readonly type: 'transactions.run';
  /** The number of times its work was begun. */
  readonly attempts: number;
  /** The number of attempts that failed because a watched key had changed. */
  readonly conflicts: number;
};

/** The end of one delivery to a consumer. @inline */
type JobProcessed = OperationEnded & {
  readonly type: 'queues.process';
  /**
   * - `acknowledged`: the job is done
   * - `retried`: it failed, and is delivered again
   * - `dead`: it goes to the dead letters
   * - `deferred`: it was refused for a time, and is delivered again after that
   * - `released`: the consumer was stopped, and the job goes back to the head of the queue
   * - `lease-lost`: its lease was lost, and it is delivered again
   * - `store-failed`: Redis did not confirm its end; the job comes back when its lease ends, unless
   *   Redis has recorded the end
   */
  readonly ended:
    'acknowledged' | 'retried' | 'deferred' | 'dead' | 'released' | 'lease-lost' | 'store-failed';
  /** The number of the delivery, from 1. */
  readonly deliveries: number;
  /**
   * Time that the job waits before it is delivered again, in milliseconds. With `retried` and
   * `deferred` only.
   */
  readonly delayMs?: number;
};

/** The end of one call under an idempotency key. Never holds the key itself. @inline */
type Idempotent = OfRegistration & {
  /**
   * The operation of the method: `orders.create`. Empty for calls of `IdempotencyService.run` that
   * name none.
   */
  readonly operation: string;
  /** The key in Redis: a hash of scope, operation and idempotency key. */
  readonly record: string;
  /** The error, as of any operation. Absent if nothing was thrown. */
  readonly error?: string;
  /** From the claim to the end, in milliseconds. */
  readonly durationMs: number;
};

/** The end of a run that had claimed its key. Exactly one for each. @inline */
type RunEnded = Idempotent & {
  readonly type: 'idempotency.run';
  /**
   * - `completed`: its result is kept for replay
   * - `held`: the record says that it ran, and has no result
   * - `released`: it failed and gave its key back
   * - `lease-lost`: it had lost its key to another run, and changed nothing of that run's
   * - `store-failed`: Redis did not confirm in time; the key stays taken until the lease ends
   */
  readonly outcome: 'completed' | 'held' | 'released' | 'lease-lost' | 'store-failed';
  /** The number of this run of the call's work, from 1. */
  readonly attempt: number;
  /** The reason for an unknown outcome; only with `held`, and only if the outcome is unknown. */
  readonly reason?: 'outcome-unknown' | 'step-interrupted' | 'abandoned' | 'attempts-exhausted';
  /** False when the replicas asked for by `durability` did not have the result in time. */
  readonly replicated: boolean;
};

/** A call that found its key taken. Exactly one for each. @inline */
type Duplicate = Idempotent & {
  readonly type: 'idempotency.duplicate';
  /**
   * - `replayed`: it was given the first call's result, or the answer that there is none to give
   * - `in-flight`: refused, because the first call is running
   * - `mismatch`: refused, because its payload is another one
   * - `caller-mismatch`: refused, because the first call was another caller's
   * - `failed`: the result could not be read, or Redis or the module went away while it waited
   */
  readonly outcome: 'replayed' | 'in-flight' | 'mismatch' | 'caller-mismatch' | 'failed';
  /** The time that it waited for the first call, in milliseconds; 0 if it did not wait. */
  readonly waitedMs: number;
  /** True if the answer came from this process's own cache. */
  readonly cached: boolean;
};

/**
 * The end of a run without protection: Redis could not be reached, and `onUnavailable` is `'run'`.
 * Exactly one for each. @inline
 */
type RanUnprotected = Idempotent & {
  readonly type: 'idempotency.ran-unprotected';
};

/**
 * The key could not be claimed, and the method did not run; `error` says why. Exactly one for each
 * such call. @inline
 */
type ClaimFailed = Idempotent & {
  readonly type: 'idempotency.claim-failed';
};

/** One member for each type, so that `Extract` finds it. @inline */
type EachEnded<Type extends Operation> = Type extends unknown
  ? OperationEnded & { readonly type: Type }
  : never;

/** The end of an operation, in one event. @inline */
type Terminal =
  | EachEnded<Exclude<Operation, 'transactions.run' | 'queues.process'>>
  | TransactionEnded
  | JobProcessed
  | RunEnded
  | Duplicate
  | RanUnprotected
  | ClaimFailed;

/**
 * The lease of an idempotent run, a job or a permit was lost during its work, so another process
 * may do the same. @inline
 */
type LeaseLost = OfRegistration & {
  readonly type: 'lease.lost';
  readonly pattern: 'idempotency' | 'queues' | 'permits';
  /** The run's operation, or the queue. Empty for a permit, whose name is a key. */
  readonly name: string;
  /** The `code` of the error that its signal aborts with. */
  readonly error: string;
};

/**
 * A reply was lost, and the outcome of its command was resolved: the operation continues as if the
 * reply had arrived. @inline
 */
type OutcomeResolved = OfRegistration & {
  readonly type: 'outcome.resolved';
  /** `EXEC`, or the name of the script. */
  readonly command: string;
  readonly outcome: 'applied' | 'not-applied';
};

/**
 * A transaction waited long for a connection of its own: `transactions.maxConnections` may be too
 * low, or Redis slow. @inline
 */
type PoolWait = OfRegistration & {
  readonly type: 'pool.wait';
  /** Over 100. */
  readonly waitedMs: number;
};

/**
 * A resumed run ended, and never asked for steps that its predecessors had finished: a step was
 * renamed without `aliases`, or the method goes another way now. @inline
 */
type StepsUnused = OfRegistration & {
  readonly type: 'steps.unused';
  /** The run's operation. */
  readonly name: string;
  /** Names of the steps. */
  readonly steps: readonly string[];
};

/** Events of things that happen now and then on the way. @inline */
type Occurrence = LeaseLost | OutcomeResolved | PoolWait | StepsUnused;

/**
 * An event of a registration. Its `type` tells events apart: `Extract<AtomicRedisEvent, { type:
 * 'lease.lost' }>` is one kind of them.
 */
export type AtomicRedisEvent = Terminal | Occurrence;

/** @inline */
export type TerminalEvent = Terminal;
/** @inline */
export type OccurrenceEvent = Occurrence;
/** @inline */
export type OperationType = Operation;
/** @inline */
export type ScriptedOperationType = Scripted;
