import type { Redis } from 'ioredis';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConfigurationError } from '../atomic-redis.errors.js';
import { isConnectionLoss, isTransientRefusal } from '../connection/reply-errors.js';
import { ServerCommands } from './server-commands.js';
import type { Fitness } from './transaction-server.js';

/**
 * Times to live of the key that is to expire, in milliseconds: a longer one where WATCH was not
 * answered while it lived.
 */
const TTLS_MS = [20, 100, 500, 2_500];

/** The time to wait for a key beyond its time to live, in milliseconds. */
const MARGIN_MS = 20;

/**
 * Finds out whether a server is fit for transactions. It must do WATCH, MULTI, EXEC and DISCARD for
 * this user, and an EXEC must fail when a watched key has expired: that keeps a late EXEC from
 * taking effect. Also finds out whether the server continues after a command that it refuses within
 * a MULTI.
 *
 * @param client of its own: it is not fit for anything else afterwards
 * @param key that no other code uses
 */
export async function probeTransactions(client: Redis, address: string, key: string): Promise<Fitness> {
  try {
    return await probe(client, address, key);
  } finally {
    // Expired, it may still be there until Redis comes to it.
    await answers(client, ['DEL', key]);
  }
}

async function probe(client: Redis, address: string, key: string): Promise<Fitness> {
  for (const ttlMs of TTLS_MS) {
    const sentAt = performance.now();
    const [set, watch] = await answers(client, ['SET', key, '', 'PX', String(ttlMs)], ['WATCH', key]);
    const isInTime = performance.now() - sentAt < ttlMs - 2;
    if (watch instanceof Error) return refused(address, 'WATCH', watch);
    if (set instanceof Error) return { kind: 'unknown', error: set };
    await sleep(ttlMs + MARGIN_MS);
    const [multi, exec] = await answers(client, ['MULTI'], ['EXEC']);
    if (multi instanceof Error) return refused(address, 'MULTI', multi);
    if (exec instanceof Error) return refused(address, 'EXEC', exec);
    if (exec !== null) {
      if (!isInTime) continue;
      const error = new ConfigurationError(
        `Redis at ${address} commits a transaction although a key that it watches has expired, so an EXEC could take effect after its deadline. Transactions cannot be run there`,
      );
      return { kind: 'unfit', error };
    }
    const [again, discard] = await answers(client, ['MULTI'], ['DISCARD']);
    if (again instanceof Error) return refused(address, 'MULTI', again);
    if (discard instanceof Error) return refused(address, 'DISCARD', discard);
    if (!(await goesOn(client, key))) return { kind: 'fit' };
    return { kind: 'fit', goesOnAfterRefusal: true, commands: await ServerCommands.of(client) };
  }
  return { kind: 'unknown', error: new Error('WATCH was answered too late') };
}

/**
 * Tells whether the server runs at once what follows a refused command within a MULTI; tried with a
 * command that only reads.
 */
async function goesOn(client: Redis, key: string): Promise<boolean> {
  const [, , next] = await answers(client, ['MULTI'], ['GET'], ['EXISTS', key], ['DISCARD']);
  if (next instanceof Error && isConnectionLoss(next)) throw next;
  return next !== 'QUEUED' && !(next instanceof Error);
}

function refused(address: string, command: string, error: Error): Fitness {
  if (isConnectionLoss(error) || isTransientRefusal(error)) return { kind: 'unknown', error };
  return { kind: 'unfit', error: commandRefused(address, command, error) };
}

/** Transactions cannot be run where one of their commands is not there. */
export const commandRefused = (address: string, command: string, cause: Error): ConfigurationError =>
  new ConfigurationError(
    `Redis at ${address} refuses ${command}, so transactions cannot be run there: ${cause.message}. docs/servers.md has the rights that they need`,
    { cause },
  );

/** Returns the reply to each command, an Error for a refused one. They leave in one write. */
function answers(client: Redis, ...commands: (readonly [string, ...string[]])[]): Promise<unknown[]> {
  return Promise.all(
    commands.map(([name, ...args]) => client.call(name, args).catch((error: Error) => error)),
  );
}
