import type { Lease } from './lease.js';
import { MIN_GRACE_MS } from './round-trips.js';
import type { TransactionConnection } from './transaction-connection.js';
import type { TransactionRun } from './transaction-run.js';

/**
 * Returns the part of the deadline to keep for the reply, in milliseconds; undefined if the rest is
 * too short for an attempt and its reply.
 */
export function graceOf(
  { graceFactor, deadline }: TransactionRun<unknown>,
  { server }: TransactionConnection,
  now: number,
): number | undefined {
  const graceMs = graceFactor * server.roundTrips.graceMs;
  return 2 * graceMs <= deadline.at - now ? graceMs : undefined;
}

/**
 * Returns the same when the measured round trips leave too little time. The server may have been
 * slow once, or the work may have held the event loop, so this asks the server whether that is
 * over.
 *
 * @throws TransactionTimeoutError when the rest is too short for an attempt and its reply
 * @throws the error that `unanswered` makes when the server does not answer
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
    const isRedisSlow = stop.isTimedOut && connection.owesAnswers;
    lease.forgetWatches(true);
    throw isRedisSlow ? unanswered() : error;
  }
  connection.server.roundTrips.startFrom(performance.now() - askedAt);
  run.graceFactor = 1;
  const graceMs = graceOf(run, connection, performance.now());
  if (graceMs === undefined) throw stop.timeOut();
  return graceMs;
}
