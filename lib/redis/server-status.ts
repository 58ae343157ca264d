import type { Redis } from 'ioredis';
import { RedisUnavailableError } from '../atomic-redis.errors.js';
import { addressOf } from './client.js';
import type { Deadline } from './deadline.js';
import { isConnectionLoss, toReplyError } from './reply-errors.js';
import type { Script } from './script.js';
import { parseServerInfo, type ServerInfo } from './server-info.js';

/** How a server is that has answered. */
export interface ServerStatus {
  readonly address: string;
  /** Of a PING, in milliseconds. */
  readonly roundTripMs: number;
  /** Undefined where the user may not ask for it. */
  readonly info: ServerInfo | undefined;
  /** Names of the library's scripts that the server does not hold. Each is sent anew with its next call, so that nothing fails. */
  readonly missingScripts: readonly string[];
}

/** @throws what `unavailable` makes when one of them does not answer by the deadline; RedisReplyError when it refuses a PING */
export async function askStatuses(
  servers: readonly Redis[],
  scripts: readonly Script[],
  deadline: Deadline,
  unavailable: (cause: Error) => RedisUnavailableError,
): Promise<ServerStatus[]> {
  return await Promise.all(
    servers.map(async (server) => {
      try {
        const silent = (): Error => unavailable(new Error(`${addressOf(server)} did not answer`));
        return await deadline.race(askStatus(server, scripts), silent);
      } catch (error) {
        if (error instanceof RedisUnavailableError) throw error;
        if (isConnectionLoss(error)) throw unavailable(error as Error);
        throw toReplyError(error as Error, 'a PING');
      }
    }),
  );
}

/** @throws what the server or the connection has against PING */
async function askStatus(server: Redis, scripts: readonly Script[]): Promise<ServerStatus> {
  const sentAt = performance.now();
  const ping = server.ping().then(() => performance.now() - sentAt);
  // Written with the PING: one round trip. What the user may not ask for is left out.
  const exists = scripts.length === 0 ? [] : server.script('EXISTS', ...scripts.map(({ sha }) => sha));
  const [roundTripMs, info, loaded] = await Promise.all([
    ping,
    server.info().then(parseServerInfo, () => undefined),
    Promise.resolve(exists as Promise<number[]> | number[]).catch(() => undefined),
  ]);
  const missingScripts = scripts.filter((_, i) => loaded?.[i] === 0).map(({ name }) => name);
  return { address: addressOf(server), roundTripMs, info, missingScripts };
}
