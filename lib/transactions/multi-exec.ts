import { Command, type Redis } from 'ioredis';
import type { QueuedCommand } from '../redis/commit-participant.js';

/**
 * Sends MULTI, the commands and EXEC over a connection that nobody else writes to meanwhile. As ioredis's own `multi()` does, with a third of
 * the promises.
 *
 * @returns what EXEC answered to each, an Error in the place of a command that failed; null when a watched key was changed
 * @throws what Redis or the client has against it; where commands were refused at queue time, `previousErrors` says why
 */
export async function multiExec(
  client: Redis,
  commands: readonly QueuedCommand[],
): Promise<unknown[] | null> {
  const { keyPrefix } = client.options;
  const queued = commands.map(
    ({ name, args }) => new Command(name, args as string[], { keyPrefix, replyEncoding: 'utf8' }),
  );
  const refusals: Error[] = [];
  // In one piece: a Buffer or a string for each command would cost more than to put them together.
  let text = '';
  const flush = (): void => {
    if (text !== '') client.stream.write(text);
    text = '';
  };
  const sink = {
    write(piece: string | Buffer) {
      if (typeof piece === 'string') text += piece;
      else {
        flush();
        client.stream.write(piece);
      }
    },
  } as unknown as Redis['stream'];
  const send = (command: Command): void => {
    (client.sendCommand(command, sink) as Promise<unknown>).catch((error: Error) => refusals.push(error));
  };
  send(new Command('multi'));
  for (const command of queued) send(command);
  const sent = client.sendCommand(new Command('exec'), sink) as Promise<unknown>;
  flush();
  let answers: unknown[] | null;
  try {
    answers = (await sent) as unknown[] | null;
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
