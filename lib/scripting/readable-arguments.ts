import { InvalidArgumentError } from '../atomic-redis.errors.js';

/**
 * Refuses a command that the server would not read. The server would close the connection, and all
 * calls that wait there would lose their replies.
 *
 * @throws InvalidArgumentError
 */
export function assertReadable(path: string, count: number, maxArguments: number): void {
  if (count > maxArguments)
    throw new InvalidArgumentError(
      path,
      `a command of at most ${maxArguments} arguments: this server closes the connection on more`,
      count,
    );
}
