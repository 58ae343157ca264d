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

/** One command failed inside EXEC; Redis does not roll back, so the others took effect. */
export class PartialCommitError extends AtomicRedisError {
  readonly code = 'PARTIAL_COMMIT';
  readonly outcome = 'applied';
  readonly retryable = false;

  constructor(
    /** Of the first failed command, in the order they were queued. */
    readonly index: number,
    readonly command: string,
    /** What EXEC answered, an Error in the place of each failed command. */
    readonly replies: readonly unknown[],
  ) {
    const cause = replies[index] as Error;
    super(
      `Command ${index} (${command}) of the transaction failed while the others were applied: ${cause.message}`,
      { cause },
    );
  }
}

/** The transaction was applied, and what EXEC answered was lost with its connection. Thrown only where `requireReplies` is set. */
export class RepliesLostError extends AtomicRedisError {
  readonly code = 'REPLIES_LOST';
  readonly outcome = 'applied';
  readonly retryable = false;

  constructor(readonly keys: readonly string[]) {
    super(
      `Transaction on ${keys.map(describe).join(', ')} was applied, but what EXEC answered was lost with its connection`,
    );
  }
}
