import type { Redis } from 'ioredis';
import { RedisUnavailableError } from '../atomic-redis.errors.js';
import { addressOf } from './client.js';
import type { Deadline } from '../runtime/deadline.js';
import { isConnectionLoss, toReplyError } from './reply-errors.js';
import type { Script } from '../scripting/script.js';
import { databaseOf } from './connection-check.js';
import { parseServerInfo, type ServerInfo, type ServerRole } from './server-info.js';

/** The state of a server that has answered. @inline */
type Status = {
  readonly address: string;
  /** `master`, unless a failover is under way; undefined if the user has no right to ask. */
  readonly role: 'master' | 'replica' | undefined;
  /** The number of the database that the library works on. */
  readonly database: number;
  /** Time that a PING took, in milliseconds. */
  readonly roundTripMs: number;
  /** Undefined if the user has no right to ask. */
  readonly info: ServerInfo | undefined;
  /**
   * Names of the library's scripts that the server does not hold. Each is sent again with its next
   * call, so no call fails.
   */
  readonly missingScripts: readonly string[];
};

/** @inline */
export type ServerStatus = Status;

/**
 * @param role used if the server does not report it by INFO
 * @throws the error of `unavailable` if a server does not answer by the deadline; RedisReplyError
 * if it refuses a PING
 */
export async function askStatuses(
  servers: readonly Redis[],
  scripts: readonly Script[],
  role: ServerRole | undefined,
  deadline: Deadline,
  unavailable: (cause: Error) => RedisUnavailableError,
): Promise<ServerStatus[]> {
  return await Promise.all(
    servers.map(async (server) => {
      try {
        const silent = (): Error => unavailable(new Error(`${addressOf(server)} did not answer`));
        return await deadline.race(askStatus(server, scripts, role), silent);
      } catch (error) {
        if (error instanceof RedisUnavailableError) throw error;
        if (isConnectionLoss(error)) throw unavailable(error as Error);
        throw toReplyError(error as Error, 'a PING');
      }
    }),
  );
}

/** @throws the refusal of PING, or the error of the connection */
async function askStatus(
  server: Redis,
  scripts: readonly Script[],
  role: ServerRole | undefined,
): Promise<ServerStatus> {
  const sentAt = performance.now();
  const ping = server.ping().then(() => performance.now() - sentAt);
  // Written with the PING, so one round trip serves both. Facts that the user may not ask for are
  // left out.
  const exists = scripts.length === 0 ? [] : server.script('EXISTS', ...scripts.map(({ sha }) => sha));
  const [roundTripMs, info, loaded] = await Promise.all([
    ping,
    server.info().then(parseServerInfo, () => undefined),
    Promise.resolve(exists as Promise<number[]> | number[]).catch(() => undefined),
  ]);
  const missingScripts = scripts.filter((_, i) => loaded?.[i] === 0).map(({ name }) => name);
  return {
    address: addressOf(server),
    role: info?.role ?? role,
    database: databaseOf(server),
    roundTripMs,
    info: info && { product: info.product, version: info.version, evictionPolicy: info.evictionPolicy },
    missingScripts,
  };
}
