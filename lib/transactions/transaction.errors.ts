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
 * refused MULTI, so that the commands were done one by one, also where a watched key had been
 * changed. Or a server that goes on after a refused command, as Dragonfly does, did those behind
 * it.
 */
export class PartialCommitError extends AtomicRedisError {
  readonly code = 'PARTIAL_COMMIT';
  readonly outcome = 'applied';
  readonly retryable = false;

  constructor(
    /**
     * The index of the first failed command, in the order they were queued; -1 if none of them
     * failed.
     */
    readonly index: number,
    /** The name of that command, or `multi`. */
    readonly command: string,
    /** The replies, with an Error for each command that failed or was dropped. */
    readonly replies: readonly unknown[],
    /** The refusal of MULTI, or of a command before those that ran. */
    refusal?: Error,
  ) {
    const cause = refusal ?? (replies[index] as Error);
    super(
      refusal
        ? `Redis refused MULTI, or a command in it, so the transaction's commands ran one by one, without protection: ${cause.message}`
        : `Command ${index} (${command}) of the transaction failed while the others were applied: ${cause.message}`,
      { cause },
    );
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
