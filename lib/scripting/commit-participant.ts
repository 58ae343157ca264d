import type { Redis } from 'ioredis';
import type { Deadline } from '../runtime/deadline.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { AsyncScope } from '../runtime/async-scope.js';

/** A write to be made inside a transaction's MULTI. */
export interface QueuedCommand {
  readonly name: string;
  readonly args: readonly unknown[];
}

/**
 * Something around a transaction that can be committed by the transaction's own EXEC, as one step with its writes, as long as it is still
 * entitled to: an idempotent run and its record, or the holder of a permit.
 */
export interface CommitParticipant {
  /** Whose Redis it lives in. */
  readonly connection: RedisConnection;
  /** Watched with the transaction's keys, so that EXEC fails when the right to commit was lost after it was verified. */
  readonly keys: readonly string[];
  /** Tells how its keys are put into the slot of the transaction's, for a `CrossSlotError`. */
  readonly colocation: string;
  /** Before WATCH. @throws RedisUnavailableError when that may be tried again, another error when the participant may not be committed any more */
  begin(deadline: Deadline): Promise<void>;
  /** Written right behind WATCH, on its connection. Rejects when the participant may not be committed any more. */
  verify(client: Redis): Promise<void>;
  /** What goes into the MULTI when the transaction's work came to `value`. */
  writes(value: unknown): readonly QueuedCommand[];
  /** After EXEC, and after an attempt that did not come to it. Tells whether the participant itself touched its keys since `begin`, or gave it up. */
  end(applied: boolean): { touched: boolean };
}

/** Stands for something that would have been committed, had it not been allowed to run without: there is nothing to write. */
export const UNPROTECTED = Symbol('unprotected');

const participants = new AsyncScope<CommitParticipant | typeof UNPROTECTED>();

/** Runs `body` as part of what `participant` stands for. */
export function withParticipant<T>(participant: CommitParticipant | typeof UNPROTECTED, body: () => T): T {
  return participants.run(participant, body);
}

/** The innermost participant that the calling code is part of. */
export const currentParticipant = (): CommitParticipant | typeof UNPROTECTED | undefined =>
  participants.find();
