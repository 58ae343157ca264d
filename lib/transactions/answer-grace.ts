import type { Lease } from './lease.js';
import { MIN_GRACE_MS } from './round-trips.js';
import type { TransactionConnection } from './transaction-connection.js';
import type { TransactionRun } from './transaction-run.js';

/** What is kept of the deadline for an answer to arrive, in milliseconds; undefined where an attempt cannot be made and answered in what is left. */
export function graceOf(
  { graceFactor, deadline }: TransactionRun<unknown>,
  { server }: TransactionConnection,
  now: number,
): number | undefined {
  const graceMs = graceFactor * server.roundTrips.graceMs;
  return 2 * graceMs <= deadline.at - now ? graceMs : undefined;
}

/**
 * What is kept of the deadline for an answer, where too little is left by what is known: the server may have been slow once, or the work have
 * held the event loop, so it is asked whether that is over.
 *
 * @throws TransactionTimeoutError when an attempt cannot be made and answered in what is left
 * @throws what `unanswered` makes when the server does not answer
 */
export async function graceAfterAsking(
  run: TransactionRun<unknown>,
  lease: Lease,
  unanswered: () => Error,
): Promise<number> {
  const { connection } = lease;
  const { stop, deadline } = run;
  if (2 * MIN_GRACE_MS > deadline.remainingMs) throw stop.timeOut();
  const askedAt = performance.now();
  try {
    await stop.until(connection.client.ping().catch(() => undefined));
  } catch (error) {
    const isRedisSlow = stop.isTimedOut && isUnanswered(connection, askedAt);
    lease.forgetWatches(true);
    throw isRedisSlow ? unanswered() : error;
  }
  connection.server.roundTrips.startFrom(performance.now() - askedAt);
  run.graceFactor = 1;
  const graceMs = graceOf(run, connection, performance.now());
  if (graceMs === undefined) throw stop.timeOut();
  return graceMs;
}

/** Whether an attempt that ends for want of time waits for Redis, and has for long enough to say so; else the work is what takes the time. */
export const isUnanswered = (connection: TransactionConnection, since: number): boolean =>
  connection.owesAnswers && performance.now() - since >= 2 * MIN_GRACE_MS;
