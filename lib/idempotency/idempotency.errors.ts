import { AtomicRedisError, describe, type Outcome } from '../atomic-redis.errors.js';

/** The call needs an idempotency key and has none. */
export class IdempotencyKeyMissingError extends AtomicRedisError {
  readonly code = 'IDEMPOTENCY_KEY_MISSING';
  readonly outcome = 'not-applied';
  readonly retryable = false;
}

/** The idempotency key is malformed. */
export class IdempotencyKeyInvalidError extends AtomicRedisError {
  readonly code = 'IDEMPOTENCY_KEY_INVALID';
  readonly outcome = 'not-applied';
  readonly retryable = false;

  constructor(expected: string, received: unknown) {
    super(`The idempotency key must be ${expected}, received ${describe(received)}`);
  }
}

/** The first call with this key is still running. */
export class IdempotencyInFlightError extends AtomicRedisError {
  readonly code = 'IDEMPOTENCY_IN_FLIGHT';
  readonly outcome = 'not-applied';
  readonly retryable = true;

  constructor(
    /**
     * When to call again, in milliseconds: what the operation usually takes in this process, at
     * least a second, and no more than what is left of the running call's lease.
     */
    readonly retryAfterMs: number,
  ) {
    super('A call with this idempotency key is still running');
  }
}

/** The key was used before with another payload. */
export class IdempotencyMismatchError extends AtomicRedisError {
  readonly code = 'IDEMPOTENCY_MISMATCH';
  readonly outcome = 'not-applied';
  readonly retryable = false;

  constructor() {
    super('This idempotency key was used before with another payload');
  }
}

/**
 * The key was used before by another caller: with another credential, session, tenant or host. The
 * call was neither answered nor run. Where both are one caller's calls, a `scope` says how to
 * recognise it.
 */
export class IdempotencyCallerMismatchError extends AtomicRedisError {
  readonly code = 'IDEMPOTENCY_CALLER_MISMATCH';
  readonly outcome = 'not-applied';
  readonly retryable = false;

  constructor() {
    super('This idempotency key was used before by another caller');
  }
}

/** Nothing in the request tells its caller from others, and `requireCaller` is set. */
export class IdempotencyCallerUnknownError extends AtomicRedisError {
  readonly code = 'IDEMPOTENCY_CALLER_UNKNOWN';
  readonly outcome = 'not-applied';
  readonly retryable = false;

  constructor() {
    super('The request does not identify its sender: send a credential or a session');
  }
}

/** Why a run that is over has no result to replay. @inline */
type NoResult =
  | 'not-kept'
  | 'too-large'
  | 'not-serializable'
  | 'request-specific'
  | 'response-failed'
  | 'response-aborted'
  | Held;

/** The reasons for an unknown outcome of a run. @inline */
type Held = 'outcome-unknown' | 'step-interrupted' | 'abandoned' | 'attempts-exhausted';

/** @inline */
export type TombstoneReason = NoResult;
/** @inline */
export type HoldReason = Held;

const HOLD_REASONS: ReadonlySet<string> = new Set<HoldReason>([
  'outcome-unknown',
  'step-interrupted',
  'abandoned',
  'attempts-exhausted',
]);

export const isHoldReason = (text: string): text is HoldReason => HOLD_REASONS.has(text);

const REASONS: Record<TombstoneReason, string> = {
  'too-large': 'its result was too large to keep',
  'not-kept': 'its effects were committed before its result was known',
  'not-serializable': 'its result cannot be kept',
  'request-specific': 'its response fits only the request that it was made for',
  'response-failed': 'its response could not be produced',
  'response-aborted': 'its response broke off',
  'outcome-unknown': 'it failed, and its effects are unknown',
  'step-interrupted': 'one of its steps began, and the effects of that are unknown',
  abandoned: 'its process ended midway, and its effects are unknown',
  'attempts-exhausted': 'it was started too often without ever ending (maxAttempts)',
};

export const isTombstoneReason = (text: string): text is TombstoneReason => Object.hasOwn(REASONS, text);

/** The first call with this key is over and is not run again, but there is no result to replay. */
export class IdempotencyResultUnavailableError extends AtomicRedisError {
  readonly code: 'IDEMPOTENCY_RESULT_UNAVAILABLE' | 'IDEMPOTENCY_OUTCOME_UNKNOWN';
  readonly outcome: Outcome;
  readonly retryable = false;

  constructor(
    readonly reason: TombstoneReason,
    /** The record that is there, for `IdempotencyService.inspect` and `forget`. */
    readonly record?: string,
  ) {
    super(`A call with this idempotency key was made before and is not run again: ${REASONS[reason]}`);
    const unknown = isHoldReason(reason);
    this.code = unknown ? 'IDEMPOTENCY_OUTCOME_UNKNOWN' : 'IDEMPOTENCY_RESULT_UNAVAILABLE';
    this.outcome = unknown ? 'unknown' : 'applied';
  }
}

/**
 * Thrown by a repeated call in place of an Error that the first call threw under `onError:
 * 'replay'`. It has that error's `name` and `message`; nothing else of it is kept. An HttpException
 * is replayed as itself. Not an `AtomicRedisError`: it stands for the method's own error.
 */
export class ReplayedError extends Error {
  constructor(
    /** The name of the error that was thrown: `TypeError`, `PaymentDeclined`. */
    name: string,
    message: string,
  ) {
    super(message);
    this.name = name;
  }
}

/**
 * Under the record's key lies something that this version did not write, or that its codec or
 * encryption cannot read. It is left untouched.
 */
export class IdempotencyRecordError extends AtomicRedisError {
  readonly code = 'IDEMPOTENCY_RECORD';
  readonly outcome = 'not-applied';
  readonly retryable = false;

  constructor(options?: ErrorOptions) {
    super(
      'The idempotency record holds something this version cannot read; it was left untouched and the work was not run',
      options,
    );
  }
}

/**
 * A reason of `run.signal`: the run lasted longer than `maxRunMs`, and its lease is no longer
 * renewed.
 */
export class RunTimeoutError extends AtomicRedisError {
  readonly code = 'RUN_TIMEOUT';
  readonly outcome = 'unknown';
  readonly retryable = false;

  constructor(readonly maxRunMs: number) {
    super(
      `This idempotent run went on for more than ${maxRunMs} ms (maxRunMs): its lease is renewed no more, and another call may run`,
    );
  }
}

/**
 * The run was used in a way that cannot be right: outside of one, after its end, or a step that it
 * cannot have. The work was not begun.
 */
export class IllegalRunStateError extends AtomicRedisError {
  readonly code = 'ILLEGAL_RUN_STATE';
  readonly outcome = 'not-applied';
  readonly retryable = false;
}

/**
 * A step of this run began in an earlier attempt, and what it did is not known. Its work was not
 * run again. Unless the method makes a result of it, the key is held: see `IdempotencyService.held`
 * and `settle`.
 */
export class StepInterruptedError extends AtomicRedisError {
  readonly code = 'STEP_INTERRUPTED';
  readonly outcome = 'unknown';
  readonly retryable = false;

  constructor(
    /** The step's name. */
    readonly step: string,
    /**
     * `begun`: it began and did not end; `not-kept`: it ended, and its result could not be kept;
     * `steps-lost`: what is kept of all steps is gone.
     */
    readonly reason: 'begun' | 'not-kept' | 'steps-lost',
  ) {
    super(`The step ${describe(step)} is not run again: ${INTERRUPTIONS[reason]}`);
  }
}

const INTERRUPTIONS: Record<StepInterruptedError['reason'], string> = {
  begun: 'an earlier attempt began it, and its effects are unknown',
  'not-kept': 'an earlier attempt did it, and its result could not be kept',
  'steps-lost': 'an earlier attempt had steps, and Redis has lost their results',
};

/**
 * A probe threw, or its time was over, so it is still not known what an earlier attempt did. A
 * later call asks the probe again.
 */
export class ProbeFailedError extends AtomicRedisError {
  readonly code = 'PROBE_FAILED';
  readonly outcome = 'not-applied';
  readonly retryable = true;

  constructor(
    /** The step's name; undefined for the probe of `onAbandoned`. */
    readonly step: string | undefined,
    options: ErrorOptions,
  ) {
    super(
      `The probe${step === undefined ? '' : ` of the step ${describe(step)}`} failed, so the effects of an earlier attempt stay unknown`,
      options,
    );
  }
}
