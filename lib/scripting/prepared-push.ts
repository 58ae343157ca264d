import type { RedisConnection } from '../connection/redis-connection.js';
import type { Deadline } from '../runtime/deadline.js';
import type { QueuedCommand } from './commit-participant.js';
import type { QueuedPushOptions } from './queued-push.js';

/** A push as commands of a transaction. */
export interface PreparedPush {
  /** The id of the job. */
  readonly id: string;
  readonly commands: readonly QueuedCommand[];
  /**
   * Completes the commands when the work is done, before they are sent. Returns undefined where
   * nothing is to be waited for. Absent where nothing is to be done.
   *
   * Throws, or rejects, when the job must not be pushed.
   */
  readonly complete: ((deadline: Deadline) => Promise<unknown> | undefined) | undefined;
  /** Called once EXEC has applied the commands. */
  applied(): void;
}

/** The method of a queue that makes a push part of a transaction. */
export const PREPARE_PUSH = Symbol('nestjs-atomic-redis:prepare-push');

/** The part of a queue that a transaction uses. */
export interface PreparesPushes {
  readonly name: string;
  /**
   * @param connection the connection of the transaction
   * @throws InvalidArgumentError, IllegalTransactionStateError
   */
  [PREPARE_PUSH](connection: RedisConnection, payload: unknown, options: QueuedPushOptions): PreparedPush;
}

/** True for a queue of this library. */
export const preparesPushes = (queue: unknown): queue is PreparesPushes =>
  typeof queue === 'object' && queue !== null && PREPARE_PUSH in queue;
