import { Command, type Redis } from 'ioredis';
import type { QueuedCommand } from '../scripting/commit-participant.js';
import { replyCode } from '../connection/reply-errors.js';

/**
 * The commands of a server and how many arguments each takes, as COMMAND tells. Needed only where a
 * refusal within a MULTI costs the transaction its protection: what the server would refuse is then
 * not sent at all.
 */
export class ServerCommands {
  private constructor(private readonly arities: ReadonlyMap<string, number>) {}

  /** Asks the server. Undefined where the user may not ask it. */
  static async of(client: Redis): Promise<ServerCommands | undefined> {
    try {
      const commands = (await client.call('COMMAND')) as [name: string, arity: number][];
      return new ServerCommands(new Map(commands.map(([name, arity]) => [name.toLowerCase(), arity])));
    } catch (error) {
      if (replyCode(error) === undefined) throw error;
      return undefined;
    }
  }

  /** Why the server would refuse one of them whatever the user's rights, in the words of Redis. */
  refusalOf(commands: readonly QueuedCommand[]): Error | undefined {
    for (const { name, args } of commands) {
      const arity = this.arities.get(name);
      if (arity === undefined) return new Error(`ERR unknown command '${name}'`);
      const parts = new Command(name, args as string[]).args.length + 1;
      if (arity < 0 ? parts < -arity : parts !== arity)
        return new Error(`ERR wrong number of arguments for '${name}' command`);
    }
    return undefined;
  }
}
