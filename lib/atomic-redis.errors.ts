/**
 * Knowledge of an operation's effect on Redis when an error is thrown.
 * `unknown` is used only where Redis stayed unreachable until the deadline or the evidence is gone.
 */
export type Outcome = 'applied' | 'not-applied' | 'unknown';

/**
 * Errors of a transport that stand for one of this library's, such as the HttpException at the edge
 * of a route.
 */
const standIns = new WeakMap<object, AtomicRedisError>();

/**
 * Makes `instanceof` take `standIn` for what `error` is, so that `@Catch(TransactionConflictError)`
 * finds it.
 */
export const standInFor = (error: AtomicRedisError, standIn: object): void =>
  void standIns.set(standIn, error);

/** Returns the error itself, or the one it stands for. */
export const withoutStandIn = (error: AtomicRedisError): AtomicRedisError => standIns.get(error) ?? error;

/**
 * Base of every error this library throws by itself. It knows nothing of HTTP. On its way out of a
 * route's handler it becomes an `HttpException` that has its fields, has it as `cause`, and is an
 * `instanceof` the same classes. An error thrown by user code is never wrapped in one of these.
 */
export abstract class AtomicRedisError extends Error {
  /** Is true also for an error of a transport that stands for one of the class. */
  static override [Symbol.hasInstance](
    this: abstract new (...args: never[]) => unknown,
    value: unknown,
  ): boolean {
    if (isMade(this, value)) return true;
    return typeof value === 'object' && value !== null && isMade(this, standIns.get(value));
  }

  /** Stable, machine-readable name of the cause, such as `TRANSACTION_CONFLICT`. */
  abstract readonly code: string;
  /** Tells if the operation took effect. */
  abstract readonly outcome: Outcome;
  /** True if the same call may be made again without risk of doing its work twice. */
  abstract readonly retryable: boolean;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

const isMade = (type: object, value: unknown): boolean =>
  Function.prototype[Symbol.hasInstance].call(type as () => void, value);

/** An option or argument is wrong. Thrown before any I/O. */
export class InvalidArgumentError extends AtomicRedisError {
  readonly code = 'INVALID_ARGUMENT';
  readonly outcome = 'not-applied';
  readonly retryable = false;

  constructor(
    /** The option or argument, as a path: `forRoot.counters.batchSize`. */
    readonly argument: string,
    /** Values that would have been accepted. */
    readonly expected: string,
    /** The value received. */
    readonly received: unknown,
    options?: ErrorOptions,
  ) {
    super(`${argument} must be ${expected}, received ${describe(received)}`, options);
  }
}

/**
 * A decorator or module is used in a way that cannot work, or a server cannot do what is needed.
 * Thrown while the application starts, and by transactions at a server that cannot run them.
 */
export class ConfigurationError extends AtomicRedisError {
  readonly code = 'CONFIGURATION';
  readonly outcome = 'not-applied';
  readonly retryable = false;
}

/** Redis could not be reached in time, and nothing of the operation took effect. */
export class RedisUnavailableError extends AtomicRedisError {
  readonly code = 'REDIS_UNAVAILABLE';
  readonly outcome = 'not-applied';
  readonly retryable = true;
}

/**
 * The operation was sent, no answer arrived, and whether it took effect could not be found out
 * before the deadline. It will not take effect later than its time-out.
 */
export class OutcomeUnknownError extends AtomicRedisError {
  readonly code = 'OUTCOME_UNKNOWN';
  readonly outcome = 'unknown';
  readonly retryable = false;
}

/**
 * The operation was made, and answered by `result`, but not enough replicas had it in time
 * (`durability`). It stands unless the master fails before they do.
 */
export class NotReplicatedError extends AtomicRedisError {
  readonly code = 'NOT_REPLICATED';
  readonly outcome = 'applied';
  readonly retryable = false;

  constructor(
    private readonly what: string,
    /** The number of replicas that the call asked for. */
    readonly requested: number,
    /**
     * The number that had it when the time was over; -1 if that is unknown, or the master itself
     * did not have it on disk.
     */
    readonly acknowledged: number,
    /** The value that the call would have returned. */
    readonly result: unknown,
    options?: ErrorOptions,
  ) {
    super(
      `${what} was done, but ${acknowledged < 0 ? 'no replica confirmed it' : `only ${acknowledged} of ${requested} replicas had it`} in time`,
      options,
    );
  }

  /** Makes the same error for a call that returns another value. */
  withResult(result: unknown): NotReplicatedError {
    const { what, requested, acknowledged, cause } = this;
    return new NotReplicatedError(what, requested, acknowledged, result, { cause });
  }
}

/**
 * Keys that must be changed together hash to different slots of a Redis Cluster. Thrown before any
 * I/O.
 */
export class CrossSlotError extends AtomicRedisError {
  readonly code = 'CROSS_SLOT';
  readonly outcome = 'not-applied';
  readonly retryable = false;

  constructor(
    readonly keys: readonly string[],
    readonly slots: readonly number[],
    advice = 'Give them a common hash tag, for example "{42}:balance" and "{42}:history": only the part in braces is hashed.',
  ) {
    const list = keys.map((key, i) => `${describe(key)} (slot ${slots[i]})`).join(', ');
    super(`Keys of one atomic operation must share a hash slot, received ${list}. ${advice}`);
  }
}

/**
 * Redis answered with an error; `reply` is its first word, such as `WRONGTYPE` or `OOM`. Nothing
 * was written, unless a script of the user's own failed on its way: then the outcome is unknown.
 */
export class RedisReplyError extends AtomicRedisError {
  readonly code = 'REDIS_REPLY';
  readonly outcome: Outcome;
  readonly retryable: boolean;

  constructor(
    readonly reply: string,
    message: string,
    options: ErrorOptions & { retryable?: boolean; outcome?: Outcome } = {},
  ) {
    super(message, options);
    this.retryable = options.retryable ?? false;
    this.outcome = options.outcome ?? 'not-applied';
  }
}

/** The module was closed before or while the operation ran, and nothing of it took effect. */
export class ModuleClosedError extends AtomicRedisError {
  readonly code = 'MODULE_CLOSED';
  readonly outcome = 'not-applied';
  readonly retryable = true;
}

/**
 * A lease was lost, by time or to another, so the same work may be done elsewhere. As the reason of
 * a run's, a job's or a permit's `signal` its outcome is unknown: only the method knows what it has
 * done. A transaction with `completesRun` or `permit`, and a scripted call with `permit`, throw it
 * with the outcome `not-applied`: nothing was applied, and the call may be repeated.
 */
export class LeaseLostError extends AtomicRedisError {
  readonly code = 'LEASE_LOST';
  readonly retryable: boolean;

  constructor(readonly outcome: 'unknown' | 'not-applied' = 'unknown') {
    super('The lease was lost: another process may do the same work');
    this.retryable = outcome === 'not-applied';
  }
}

/** The transaction was used in a way that cannot be right. Nothing was written. */
export class IllegalTransactionStateError extends AtomicRedisError {
  readonly code = 'ILLEGAL_TRANSACTION_STATE';
  readonly outcome = 'not-applied';
  readonly retryable = false;
}

/** A key holds another type than the call is for. It was left as it was. */
export class WrongTypeError extends AtomicRedisError {
  readonly code = 'WRONG_TYPE';
  readonly outcome = 'not-applied';
  readonly retryable = false;

  constructor(
    readonly key: string,
    /** The type it should have: `string`, `hash`, `stream`, … */
    readonly expected: string,
  ) {
    super(`${describe(key)} holds another type than a ${expected}`);
  }
}

/**
 * The answer of Redis is not UTF-8 text, and the call did not ask for bytes. They are in `bytes`,
 * so that nothing is lost.
 */
export class InvalidUtf8Error extends AtomicRedisError {
  readonly code = 'INVALID_UTF8';
  readonly retryable = false;

  constructor(
    readonly key: string,
    readonly bytes: Buffer,
    readonly outcome: Outcome,
  ) {
    super(`${describe(key)} holds bytes that are not UTF-8 text: pass encoding: 'buffer'`);
  }
}

/** The key holds something other than a signed 64-bit integer. It was left as it was. */
export class NotAnIntegerError extends AtomicRedisError {
  readonly code = 'NOT_AN_INTEGER';
  readonly outcome = 'not-applied';
  readonly retryable = false;

  constructor(
    readonly key: string,
    /** A string that is no integer as Redis spells one, or another type, such as a list. */
    readonly found: 'other-string' | 'other-type',
  ) {
    super(
      `${describe(key)} does not hold an integer, but ` +
        (found === 'other-type'
          ? 'another type than a string'
          : 'a string that is not a signed 64-bit integer'),
    );
  }
}

/** The result is an integer that a JavaScript number cannot hold exactly. Nothing was changed. */
export class UnsafeIntegerError extends AtomicRedisError {
  readonly code = 'UNSAFE_INTEGER';
  readonly outcome = 'not-applied';
  readonly retryable = false;

  constructor(
    readonly key: string,
    /** The call that gives the exact result, such as `getBigInt`. */
    readonly instead: string,
  ) {
    super(`${describe(key)} is beyond what a number holds exactly (2^53 - 1): use ${instead}`);
  }
}

/** A short, safe rendering of any value for an error message. */
export function describe(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value);
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return value.name ? `function ${value.name}` : 'a function';
  if (value === null || typeof value !== 'object') return String(value);
  if (Array.isArray(value)) return `an array of ${value.length}`;
  const name = (Object.getPrototypeOf(value) as { constructor?: { name?: string } } | null)?.constructor
    ?.name;
  return name && name !== 'Object'
    ? `an instance of ${name}`
    : `an object with keys [${Object.keys(value).slice(0, 5).join(', ')}]`;
}
