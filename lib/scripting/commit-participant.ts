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
 * entitled to: an idempotent run and its record, a job and its delivery, or the holder of a permit.
 */
export interface CommitParticipant {
  /** Whose Redis it lives in. */
  readonly connection: RedisConnection;
  /** Watched with the transaction's keys, so that EXEC fails when the right to commit was lost after it was verified. */
  readonly keys: readonly string[];
  /** Keys that it writes and that are not watched: these too lie in the slot of the transaction's. Default: none. */
  readonly unwatchedKeys?: readonly string[];
  /** Tells how its keys are put into the slot of the transaction's, for a `CrossSlotError`. */
  readonly colocation: string;
  /** Before WATCH. @throws RedisUnavailableError when that may be tried again, another error when the participant may not be committed any more */
  begin(deadline: Deadline): Promise<void>;
  /**
   * Written right behind WATCH, on its connection. Resolves with false when the attempt has to begin again; rejects when the participant may not be committed any more.
   *
   * @param deadlineKey the key that expires when EXEC can take effect no more
   */
  verify(client: Redis, deadlineKey: string): Promise<void | false>;
  /** What goes into the MULTI when the transaction's work came to `value`. EXEC is sent in the same turn, or not at all. */
  writes(value: unknown): readonly QueuedCommand[];
  /**
   * After EXEC, and after an attempt that did not come to it. Tells whether the participant itself touched its keys since `begin`, or gave it up.
   * @param isUnknown the outcome is not known, and never may be
   */
  end(applied: boolean, isUnknown: boolean): { touched: boolean };
}

/** The property of a job that is its participant. */
export const JOB_PARTICIPANT = Symbol('nestjs-atomic-redis:job-participant');

/** The participant of a job of this library; undefined for anything else. */
export const participantOf = (job: unknown): CommitParticipant | undefined =>
  typeof job === 'object' && job !== null
    ? (job as { readonly [JOB_PARTICIPANT]?: CommitParticipant })[JOB_PARTICIPANT]
    : undefined;

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
