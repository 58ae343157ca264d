import type { RedisConnection } from '../connection/redis-connection.js';
import type { Deadline } from '../runtime/deadline.js';
import type { QueuedCommand } from './commit-participant.js';

/** Options of `Transaction.push`. */
export interface QueuedPushOptions {
  /**
   * Time that the job waits before it can be taken, by Redis's clock, in milliseconds, up to ten years. It begins when EXEC is sent. @default 0
   */
  delayMs?: number;
  /** Wait of this job after a failed delivery, in place of its queue's `retry`; a field that is absent is the queue's. */
  retry?: { minMs?: number; maxMs?: number };
}

/** A queue that `Transaction.push` takes: what `ReliableQueueService.get` returns. */
export interface PushTarget<Payload> {
  readonly name: string;
  push(payload: Payload): Promise<string>;
}

/** A push as commands of a transaction. */
export interface PreparedPush {
  /** The id of the job. */
  readonly id: string;
  readonly commands: readonly QueuedCommand[];
  /**
   * Completes the commands when the work is done, before they are sent. Returns undefined where nothing is to be waited for. Absent where nothing is to be done.
   *
   * Throws, or rejects, when the job must not be pushed.
   */
  readonly complete: ((deadline: Deadline) => Promise<unknown> | undefined) | undefined;
  /** Called once EXEC has applied the commands. */
  applied(): void;
}

/** The method of a queue that makes a push part of a transaction. */
export const PREPARE_PUSH = Symbol('nestjs-atomic-redis:prepare-push');

/** What a transaction uses of a queue. */
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
