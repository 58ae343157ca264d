import type { Redis } from 'ioredis';
import type { Deadline } from '../runtime/deadline.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { AsyncScope } from '../runtime/async-scope.js';
import { TransactionWaiter } from './begun-transactions.js';

/** A write inside a transaction's MULTI. */
export interface QueuedCommand {
  readonly name: string;
  readonly args: readonly unknown[];
}

/**
 * A participant around a transaction: an idempotent run with its record, a job with its delivery,
 * or the holder of a permit. The transaction's own EXEC can commit it in one step with its writes,
 * as long as the participant still holds its right to that. The name is the one of XA.
 */
export interface CommitParticipant {
  /** The kind of thing that it commits. */
  readonly commits: 'run' | 'step' | 'job' | 'permit';
  /** The connection to the Redis that it lives in. */
  readonly connection: RedisConnection;
  /**
   * Watched with the transaction's keys, so that EXEC fails if the right to commit was lost after
   * it was verified.
   */
  readonly keys: readonly string[];
  /**
   * Keys that it writes and that are not watched. They too lie in the slot of the transaction's
   * keys. Default: none.
   */
  readonly unwatchedKeys?: readonly string[];
  /** Says how to put its keys into the slot of the transaction's keys, for a `CrossSlotError`. */
  readonly colocation: string;
  /**
   * Called with each transaction that is to commit it, also one that is refused. The participant's
   * own end waits for it, and fails with it, where the code that began it does not await it. Absent
   * if no consumer waits.
   */
  enlist?(transaction: Promise<unknown>): void;
  /**
   * Called before WATCH.
   * @throws RedisUnavailableError if it may be tried again, another error if the participant can no
   * longer be committed
   */
  begin(deadline: Deadline): Promise<void>;
  /**
   * Called right behind WATCH, on its connection. Resolves with false if the attempt has to begin
   * again. Rejects if the participant can no longer be committed.
   *
   * @param deadlineKey the key that expires when EXEC can no longer take effect
   */
  verify(client: Redis, deadlineKey: string): Promise<void | false>;
  /**
   * Returns the writes for the MULTI. EXEC is sent in the same turn, or not at all.
   * @param value the result of the transaction's work
   */
  writes(value: unknown): readonly QueuedCommand[];
  /**
   * Called after EXEC, and after an attempt without one. Returns `touched` if the participant
   * itself touched its keys since `begin`, or gave them up.
   * @param isUnknown the outcome is not known, and never may be
   */
  end(applied: boolean, isUnknown: boolean): { touched: boolean };
}

/** The property of a job that is its participant. */
export const JOB_PARTICIPANT = Symbol('nestjs-atomic-redis:job-participant');

/** Returns the participant of a job of this library; undefined for any other value. */
export const participantOf = (job: unknown): CommitParticipant | undefined =>
  typeof job === 'object' && job !== null
    ? (job as { readonly [JOB_PARTICIPANT]?: CommitParticipant })[JOB_PARTICIPANT]
    : undefined;

/**
 * Marks a run that executes without a record (`onUnavailable: 'run'`); there is nothing to commit.
 */
export abstract class Unprotected extends TransactionWaiter {
  abstract readonly connection: RedisConnection;
}

/** Anything that the calling code may be part of. */
export type Participant = CommitParticipant | Unprotected;

const participants = new AsyncScope<Participant>();

/** Runs `body` as a part of `participant`. */
export function withParticipant<T>(participant: Participant, body: () => T): T {
  return participants.run(participant, body);
}

/** Returns the innermost participant around the calling code that `accepts` takes. */
export const currentParticipant = (accepts?: (one: Participant) => boolean): Participant | undefined =>
  participants.find(accepts);
