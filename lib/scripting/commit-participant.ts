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
 * entitled to: an idempotent run and its record, or one of its steps.
 */
export interface CommitParticipant {
  /** What of a run it commits. */
  readonly commits: 'run' | 'step';
  /** Whose Redis it lives in. */
  readonly connection: RedisConnection;
  /** Watched with the transaction's keys, so that EXEC fails when the right to commit was lost after it was verified. */
  readonly key: string;
  /** Before WATCH. @throws RedisUnavailableError when that may be tried again, another error when the participant may not be committed any more */
  begin(deadline: Deadline): Promise<void>;
  /** Written right behind WATCH, on its connection. Rejects when the participant may not be committed any more. */
  verify(client: Redis): Promise<void>;
  /** What goes into the MULTI when the transaction's work came to `value`. */
  writes(value: unknown): readonly QueuedCommand[];
  /** After EXEC, and after an attempt that did not come to it. Tells whether the participant itself touched its key since `begin`, or gave it up. */
  end(applied: boolean): { touched: boolean };
}

/** Stands for something that would have been committed, had it not been allowed to run without: there is nothing to write. */
export abstract class Unprotected {
  abstract readonly connection: RedisConnection;
}

/** What the calling code may be part of. */
export type Participant = CommitParticipant | Unprotected;

const participants = new AsyncScope<Participant>();

/** Runs `body` as part of what `participant` stands for. */
export function withParticipant<T>(participant: Participant, body: () => T): T {
  return participants.run(participant, body);
}

/** The innermost participant that the calling code is part of, and that `accepts` takes. */
export const currentParticipant = (accepts?: (one: Participant) => boolean): Participant | undefined =>
  participants.find(accepts);
