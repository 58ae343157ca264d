import { unschedule, schedule } from '../runtime/timer-queue.js';
import type { Deadline } from '../runtime/deadline.js';
import type { Lifetime } from './deadline-key.js';
import { MIN_GRACE_MS } from './round-trips.js';
import type { TransactionConnection } from './transaction-connection.js';

/** Time reserved for resolving the outcome of an EXEC, in milliseconds. */
const LEAST_LEFT_MS = 2 * MIN_GRACE_MS;

/** After half of the time, it is looked for this long whether bytes move, in milliseconds. */
const LOOK_MS = 100;

/** Longest pause, in milliseconds, between two moves of bytes while an EXEC is still waited for. */
const MOVE_WITHIN_MS = 500;

/** An EXEC that is written, and by what its outcome can be found. */
export interface Sent {
  readonly connection: TransactionConnection;
  readonly slot: number;
  /** The value that it sets the marker to. */
  readonly attempt: string;
  readonly ttlMs: number;
  /** The lifetime of the deadline key that it is watched with. */
  readonly lifetime: Lifetime;
  /** Monotonic time. */
  readonly sentAt: number;
  readonly answer: Promise<unknown[] | null>;
  /** True if it commits several transactions. */
  readonly isShared: boolean;
  /** True if the EXEC sets the marker's second key, ahead of all other commands. */
  readonly marksBeginning: boolean;
}

/**
 * Waits for the answer to EXEC. Connections that are dead are found elsewhere, and end the wait.
 * Beside that it ends when half of the time is over, unless bytes still move: a large request or
 * answer may take longer.
 */
export function execAnswer(
  { answer, connection, sentAt }: Sent,
  deadline: Deadline,
): Promise<unknown[] | null> {
  return new Promise((resolve, reject) => {
    let before: number | undefined;
    const look = (): void => {
      const now = connection.progress;
      const mayMove =
        before === undefined || now !== before || performance.now() < sentAt + connection.sendingMs;
      const againMs = Math.min(before === undefined ? LOOK_MS : MOVE_WITHIN_MS, deadline.remainingMs / 4);
      before = now;
      if (mayMove && deadline.remainingMs > LEAST_LEFT_MS)
        alarm = schedule(performance.now() + againMs, look);
      else reject(new Error('EXEC was not answered'));
    };
    let alarm = schedule(performance.now() + deadline.remainingMs / 2, look);
    // As in Deadline.race: neither settles before the alarm is called off.
    const settle =
      <V>(as: (value: V) => void) =>
      (value: V): void => {
        unschedule(alarm);
        as(value);
      };
    answer.then(settle(resolve), settle(reject));
  });
}
