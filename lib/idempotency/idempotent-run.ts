import type { StepOptions, StepWork } from './steps/step.options.js';
import type { StoredResult } from './stored-result.js';

/** The part of its run that an idempotent method may see. Injected by `@InjectRun()`. */
export abstract class IdempotentRun {
  /**
   * Aborts when the run can no longer count on its key, so that another call may run: with a
   * `LeaseLostError` when the lease was lost, with a `RunTimeoutError` after `maxRunMs`, with a
   * `ModuleClosedError` when the module was closed and the lease is renewed no more.
   */
  abstract readonly signal: AbortSignal;

  /**
   * Number of this run among those that worked on the call, from 1. A run without steps that died
   * is not counted, unless `onAbandoned` is set.
   */
  abstract readonly attempt: number;

  /** True if an earlier run died or failed, and this one continues its work. */
  abstract readonly resumed: boolean;

  /**
   * Returns a key for a third party that knows idempotency keys: 43 characters, the same in every
   * attempt, and another for each name and each call.
   *
   * @throws InvalidArgumentError for anything but a name of 1 to 256 characters
   */
  abstract keyFor(name: string): string;

  /**
   * Runs a part of the method's work once, and keeps its result: a later attempt is given the
   * result, and does not run the work. Steps may run side by side. Between two of them nothing is
   * known, so put all that has an effect into one. Results are JSON values, or values that the
   * codec carries; the first attempt is given the decoded value too.
   *
   * ```ts
   * const charge = await run.step('charge', (step) => stripe.charges.create({ … }, { idempotencyKey: step.key }));
   * ```
   *
   * Takes one round trip, two with `onInterrupted: 'hold'` or a probe; one more for the first step
   * of a resumed run.
   *
   * @param name of the step: the same in every version of the application, and of one step in each
   * run
   * @throws the error of `work`, the same instance; nothing is kept of it
   * @throws InvalidArgumentError for a wrong option
   * @throws IllegalTransactionStateError inside a transaction, whose attempts would repeat the step
   * @throws IllegalRunStateError for a name that has run in this pass, for more than `maxSteps`
   * steps, after the end of the run or its commit, and where the run has no record (`onUnavailable:
   * 'run'`)
   * @throws LeaseLostError when the run has lost its key: `not-applied` if the work was not begun,
   * else `unknown`
   * @throws StepInterruptedError when an earlier attempt began the step and `onInterrupted` or its
   * probe holds it, and when its result could not be kept
   * @throws ProbeFailedError when the probe threw, or took longer than `probeTimeoutMs`
   * @throws RedisUnavailableError, OutcomeUnknownError when Redis could not be told in time
   */
  abstract step<T>(name: string, work: StepWork<T>, options?: StepOptions<T>): Promise<T>;
}

/** A run that has claimed its key, and how it ends: exactly one of `complete` and `release`. */
export interface ClaimedRun extends IdempotentRun {
  /** Runs the method as part of this run, so that a transaction inside can commit it. */
  within<T>(method: () => Promise<T> | T): Promise<T>;
  /**
   * Stores the result for replay. If Redis does not confirm in time, keeps trying while the lease
   * lives. Never rejects: the caller is owed the result, whether or not it could be stored.
   */
  complete(result: StoredResult): Promise<void>;
  /** Gives the key back, so that the next call runs. Never rejects. */
  release(): Promise<void>;
  /** Like `release`, for a run that never began because its caller has left: emits no event. */
  abandon(): Promise<void>;
}

/** The result of a claim. */
export type Claim = { readonly kind: 'run'; readonly run: ClaimedRun } | Replay;

/** The result of the run that had the key. */
export interface Replay {
  readonly kind: 'replay';
  /**
   * Reads the result, and reports by an event that this was done; once, however often it is read.
   */
  readonly read: <T>(reader: (result: StoredResult) => T) => T;
}
