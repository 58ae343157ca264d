import { AtomicRedisError, describe } from '../atomic-redis.errors.js';

/**
 * A script was about to send a command for a key that it does not declare. On a Cluster that key
 * may be on another server. The command was not sent; what the script did before it stays done.
 */
export class UndeclaredKeyError extends AtomicRedisError {
  readonly code = 'UNDECLARED_KEY';
  readonly outcome = 'unknown';
  readonly retryable = false;

  constructor(
    /** The script's name. */
    readonly script: string,
    /** The key as the script named it, with the client's `keyPrefix` if it has one. */
    readonly key: string,
    /** The command's name. */
    readonly command: string,
  ) {
    super(
      `Script ${script} was about to send ${command} for key ${describe(key)}, which is not among its keys. ` +
        `Declare it in the script's keys and take it from KEYS`,
    );
  }
}
