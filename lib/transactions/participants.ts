import {
  AtomicRedisError,
  IllegalTransactionStateError,
  RedisUnavailableError,
  type Outcome,
} from '../atomic-redis.errors.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { enforcementOf } from '../leases/permit.js';
import {
  currentParticipant,
  participantOf,
  Unprotected,
  type CommitParticipant,
  type QueuedCommand,
} from '../scripting/commit-participant.js';
import { again, type AttemptResult } from './attempt-result.js';
import type { TransactionRun } from './transaction-run.js';
import { PartialCommitError } from './transaction.errors.js';
import type { TransactionOptions } from './transaction.options.js';

const NONE: readonly CommitParticipant[] = [];

/**
 * Returns what the transaction's EXEC commits beside its writes, or is refused without.
 * @throws IllegalTransactionStateError for one that belongs to another registration, or is not
 * there
 */
export function participantsOf(
  options: TransactionOptions,
  connection: RedisConnection,
): readonly CommitParticipant[] {
  const { completesRun, completesStep, completesJob, permit } = options;
  if (!completesRun && !completesStep && !completesJob && !permit) return NONE;
  const participants: CommitParticipant[] = [];
  const run = currentRun(options, connection);
  if (run) participants.push(run);
  if (completesJob) {
    const job = participantOf(completesJob)!;
    if (job.connection !== connection)
      throw new IllegalTransactionStateError(
        `completesJob: job ${completesJob.id} was taken by another registration than the transaction's, so it lies elsewhere`,
      );
    participants.push(job);
  }
  if (permit) participants.push(enforcementOf(permit, connection).participant());
  return participants;
}

/**
 * The idempotent run or the step that the calling code is part of; none when that runs without
 * protection.
 */
function currentRun(
  { completesRun, completesStep }: TransactionOptions,
  connection: RedisConnection,
): CommitParticipant | undefined {
  if (!completesRun && !completesStep) return undefined;
  if (completesRun && completesStep)
    throw new IllegalTransactionStateError(
      'A transaction has completesRun or completesStep, not both: the commit of a run ends its steps too',
    );
  const participant = currentParticipant();
  if (participant instanceof Unprotected) return undefined;
  if (participant?.connection === connection && participant.commits === (completesRun ? 'run' : 'step'))
    return participant;
  throw new IllegalTransactionStateError(
    completesRun
      ? 'completesRun needs an idempotent run around the transaction, of the same registration: ' +
          'use it inside @Idempotent() or IdempotencyService.run(), and not inside a step of the run, where completesStep has its place'
      : 'completesStep needs a step of an idempotent run around the transaction, of the same registration: use it inside run.step()',
  );
}

/**
 * Has what a transaction is to commit wait for it, and fail with it, also with one that is refused:
 * the part of a run that the calling code is in, and the job.
 */
export function enlist(
  running: Promise<unknown>,
  { completesRun, completesStep, completesJob }: TransactionOptions,
): void {
  if (completesRun || completesStep) currentParticipant()?.enlist?.(running);
  participantOf(completesJob)?.enlist?.(running);
}

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
