import { AtomicRedisError, RedisUnavailableError, type Outcome } from '../atomic-redis.errors.js';
import type { CommitParticipant, QueuedCommand } from '../scripting/commit-participant.js';
import { again, type AttemptResult } from './attempt-result.js';
import type { TransactionRun } from './transaction-run.js';
import { PartialCommitError } from './transaction.errors.js';

/**
 * The commands of the participants, behind those of the work.
 * @param value the result of the work
 */
export function writesOf<T>(
  { participants, options }: TransactionRun<T>,
  value: T,
): readonly QueuedCommand[] {
  const kept = (options.completesRun ?? options.completesStep)?.(value);
  return participants.flatMap((participant) => participant.writes(kept));
}

/**
 * The outcome for the participants. Errors of the work and of `onReplies` say nothing of the
 * transaction, whatever they are. If the writes of the participants failed, their part of what was
 * applied is not known.
 */
function outcomeOf({ execOutcome }: TransactionRun<unknown>, error: unknown): Outcome {
  if (execOutcome !== 'unknown' || !(error instanceof AtomicRedisError)) return execOutcome;
  return error instanceof PartialCommitError && error.completionFailed ? 'unknown' : error.outcome;
}

/**
 * Leads an attempt whose EXEC commits participants too, and tells them of its end.
 *
 * @param againElsewhere makes the result of an attempt that a participant could not begin
 */
export async function withParticipants<T>(
  run: TransactionRun<T>,
  lead: () => Promise<AttemptResult<T>>,
  againElsewhere: (cause: Error) => Promise<AttemptResult<never>>,
): Promise<AttemptResult<T>> {
  const { participants, deadline } = run;
  const begun: CommitParticipant[] = [];
  let outcome: Outcome = 'not-applied';
  let isTouched = false;
  let result: AttemptResult<T>;
  run.execOutcome = 'not-applied';
  try {
    for (const participant of participants) {
      await participant.begin(deadline);
      begun.push(participant);
    }
    result = await lead();
    if (result.done) outcome = 'applied';
  } catch (error) {
    if (begun.length < participants.length && error instanceof RedisUnavailableError)
      return await againElsewhere(error);
    outcome = outcomeOf(run, error);
    throw error;
  } finally {
    for (const participant of begun) {
      const { touched } = participant.end(outcome === 'applied', outcome === 'unknown');
      isTouched ||= touched;
    }
  }
  // The participant's own touch made EXEC fail. No other client changed anything, so this costs the
  // caller no attempt.
  return isTouched && !result.done && result.conflict
    ? again(new Error('the lease was renewed meanwhile'))
    : result;
}
