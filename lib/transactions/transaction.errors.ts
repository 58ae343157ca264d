import { AtomicRedisError, describe } from '../atomic-redis.errors.js';

/** Others kept changing the keys until the attempts or the time ran out. Nothing was written. */
export class TransactionConflictError extends AtomicRedisError {
  readonly code = 'TRANSACTION_CONFLICT';
  readonly outcome = 'not-applied';
  readonly retryable = true;

  constructor(
    readonly keys: readonly string[],
    readonly attempts: number,
    readonly elapsedMs: number,
    options?: ErrorOptions,
  ) {
    const list = keys.map(describe).join(', ');
    super(
      `Transaction on ${list} met conflicting changes in ${attempts} attempts over ${Math.round(elapsedMs)} ms`,
      options,
    );
  }
}

/** The work had not finished by the deadline. Nothing was written. */
export class TransactionTimeoutError extends AtomicRedisError {
  readonly code = 'TRANSACTION_TIMEOUT';
  readonly outcome = 'not-applied';
  readonly retryable = true;

  constructor(
    readonly keys: readonly string[],
    readonly timeoutMs: number,
    options?: ErrorOptions,
  ) {
    super(
      `Transaction on ${keys.map(describe).join(', ')} was not done within its timeoutMs of ${timeoutMs}`,
      options,
    );
  }
}

/**
 * One command failed inside EXEC; Redis does not roll back, so the others took effect. Or Redis
 * refused MULTI, so that the commands ran one by one, even if a watched key had been changed. Or a
 * server that continues after a refused command, as Dragonfly does, ran the commands behind it. Or
 * the transaction's commands took effect, and one that completes its run, step or job failed.
 */
export class PartialCommitError extends AtomicRedisError {
  readonly code = 'PARTIAL_COMMIT';
  readonly outcome = 'applied';
  readonly retryable = false;

  /**
   * True if a command that completes the run, step or job failed, alone or with others. That is
   * then treated as one whose outcome is unknown: a run is held.
   */
  readonly completionFailed: boolean;

  constructor(
    /**
     * The index of the first failed command, in the order they were queued; -1 if none of them
     * failed.
     */
    readonly index: number,
    /** The name of that command, or of the one that failed in its place; else `multi`. */
    readonly command: string,
    /** The replies, with an Error for each command that failed or was dropped. */
    readonly replies: readonly unknown[],
    {
      refusal,
      completion,
    }: {
      /** The refusal of MULTI, or of a command before those that ran. */
      readonly refusal?: Error | undefined;
      /** The error of a command that completes a run, step or job. */
      readonly completion?: Error | undefined;
    } = {},
  ) {
    const cause = refusal ?? (replies[index] as Error | undefined) ?? completion;
    let happened = `Command ${index} (${command}) of the transaction failed while the others were applied`;
    if (refusal)
      happened =
        "Redis refused MULTI, or a command in it, so the transaction's commands ran one by one, without protection";
    else if (index < 0)
      happened = `The transaction's commands were applied, and ${command}, by which it completes its run, step or job, failed. Look for a key of another type in its way`;
    super(`${happened}: ${cause?.message}`, { cause });
    this.completionFailed = completion !== undefined;
  }
}

/**
 * The transaction was applied, and the reply to EXEC was lost with its connection. Thrown only with
 * `requireReplies`.
 */
export class RepliesLostError extends AtomicRedisError {
  readonly code = 'REPLIES_LOST';
  readonly outcome = 'applied';
  readonly retryable = false;

  constructor(readonly keys: readonly string[]) {
    super(
      `Transaction on ${keys.map(describe).join(', ')} was applied, but the reply to EXEC was lost with its connection`,
    );
  }
}
