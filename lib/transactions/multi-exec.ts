import type { QueuedCommand } from '../redis/commit-participant.js';
import type { TransactionConnection } from './transaction-connection.js';

/**
 * Sends MULTI, the commands and EXEC over a connection that nobody else writes to meanwhile. As ioredis's own `multi()` does, with a fraction of
 * the promises.
 *
 * @returns what EXEC answered to each, an Error in the place of a command that failed; null when a watched key was changed
 * @throws what Redis or the client has against it; where commands were refused at queue time, `previousErrors` says why
 */
export async function multiExec(
  connection: TransactionConnection,
  commands: readonly QueuedCommand[],
): Promise<unknown[] | null> {
  const queued = commands.map(({ name, args }) => connection.command(name, args));
  const refusals: Error[] = [];
  for (const command of [connection.command('multi'), ...queued]) {
    // Nobody waits for its promise: EXEC answers for all.
    command.reject = (error) => refusals.push(error);
    void connection.send(command);
  }
  let answers: unknown[] | null;
  try {
    answers = (await connection.send(connection.command('exec', [], null))) as unknown[] | null;
  } catch (error) {
    throw Object.assign(error as Error, { previousErrors: refusals });
  }
  return (
    answers &&
    answers.map((answer, i) =>
      answer instanceof Error ? answer : queued[i]!.transformReply(answer as Buffer),
    )
  );
}
