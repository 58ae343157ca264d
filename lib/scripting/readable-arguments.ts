import { InvalidArgumentError } from '../atomic-redis.errors.js';

/**
 * Refuses a command that the server would not read: it would close the connection, under all calls that wait there.
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
