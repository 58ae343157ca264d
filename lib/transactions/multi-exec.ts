import type { Command } from 'ioredis';
import type { QueuedCommand } from '../scripting/commit-participant.js';
import { isRefusedBeforehand, replyCode } from '../connection/reply-errors.js';
import type { TransactionConnection } from './transaction-connection.js';

/**
 * Commands took effect although Redis refused MULTI, or one of them: MULTI was not in force, or not
 * for all of them, and they were done one by one, whatever became of the watched keys.
 */
export class RanOutsideMulti extends Error {
  constructor(
    /** Why: what Redis has against MULTI, or against a command before those that ran. */
    override readonly cause: Error,
    /** True if MULTI was refused, and not a command. */
    readonly isMulti: boolean,
    /** The reply to each command, an Error for one that failed; undefined if that is not known. */
    readonly replies: readonly unknown[] | undefined,
  ) {
    super(`The commands ran one by one, since Redis refused one before them: ${cause.message}`);
  }
}

/**
 * Sends MULTI, the commands and EXEC over a connection to which no other code writes meanwhile.
 * Does the same as ioredis's own `multi()`, with a fraction of the promises.
 *
 * @returns the reply of EXEC to each command, an Error for one that failed; null when a watched key
 * was changed
 * @throws RanOutsideMulti when commands took effect outside of a transaction
 * @throws the error of Redis or of the client; then no answered command took effect. If commands
 * were refused at queue time, `previousErrors` says why
 */
export async function multiExec(
  connection: TransactionConnection,
  commands: readonly QueuedCommand[],
): Promise<unknown[] | null> {
  const multi = connection.command('multi');
  const queued = commands.map(({ name, args }) => connection.command(name, args));
  // The reply to each command, in the order in which they were sent.
  const answers: unknown[] = [];
  const answered = (answer: unknown): void => void answers.push(answer);
  for (const command of [multi, ...queued]) {
    // No code awaits its promise: EXEC answers for all.
    command.resolve = answered;
    command.reject = answered;
    void connection.send(command);
  }
  let replies: unknown[] | null;
  try {
    replies = (await connection.send(connection.command('exec', [], null))) as unknown[] | null;
  } catch (error) {
    const refusals = answers.filter((answer): answer is Error => answer instanceof Error);
    const [refusal] = refusals;
    if (refusal && replyCode(refusal) !== undefined) {
      const [, ...toCommands] = answers;
      const ran = toCommands.some((answer) => !(answer instanceof Error) && !isQueued(answer));
      const areKnown = replyCode(error) !== undefined;
      const isMulti = refusal === answers[0];
      const mayHaveRun = isMulti && !(areKnown && refusals.every(isRefusedBeforehand));
      if (ran && areKnown) {
        const became = toCommands.map((answer) => (isQueued(answer) ? dropped(refusal) : answer));
        throw new RanOutsideMulti(refusal, isMulti, decoded(queued, became));
      }
      if (ran || mayHaveRun) throw new RanOutsideMulti(refusal, isMulti, undefined);
    }
    throw Object.assign(error as Error, { previousErrors: refusals });
  }
  // Another MULTI was in force; ours are the last.
  if (answers[0] instanceof Error)
    throw new RanOutsideMulti(
      answers[0],
      true,
      replies ? decoded(queued, replies.slice(-queued.length)) : undefined,
    );
  if (replies && replies.length !== queued.length) throw ranWithout(queued, answers.slice(1), replies);
  return replies && decoded(queued, replies);
}

/** EXEC has done those that were queued, and a refusal of another one did not keep it from that. */
function ranWithout(
  queued: readonly Command[],
  toCommands: readonly unknown[],
  replies: readonly unknown[],
): RanOutsideMulti {
  let at = 0;
  const became = toCommands.map((answer) => (isQueued(answer) ? replies[at++] : answer));
  const refusal = toCommands.find((answer) => answer instanceof Error) as Error;
  return new RanOutsideMulti(refusal, false, decoded(queued, became));
}

/** Makes the error of a command that was queued and not done. */
const dropped = (cause: Error): Error =>
  new Error(`Redis dropped it when it refused another command: ${cause.message}`, { cause });

const isQueued = (answer: unknown): boolean => String(answer) === 'QUEUED';

const decoded = (commands: readonly Command[], answers: readonly unknown[]): unknown[] =>
  answers.map((answer, i) =>
    answer instanceof Error ? answer : commands[i]!.transformReply(answer as Buffer),
  );
