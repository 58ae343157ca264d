import { Logger } from '@nestjs/common';
import type { Redis } from 'ioredis';
import { permissionsScript } from './permissions.script.js';
import type { Script } from './script.js';

const logger = new Logger('AtomicRedisModule');

const OLDEST = { Redis: [7, 0], Valkey: [8, 0] } as const;

/** What the library sends outside of scripts. */
const COMMANDS = [
  ...['MULTI', 'EXEC', 'DISCARD', 'WATCH', 'UNWATCH', 'PING', 'TIME', 'WAIT', 'SET'],
  ...['EVAL', 'EVALSHA', 'EVALSHA_RO', 'SCRIPT LOAD', 'SSUBSCRIBE', 'SUNSUBSCRIBE'],
];

/** Commands that are nothing without a subcommand, which a script may make up as it runs. */
const CONTAINERS = new Set(['COMMAND', 'XGROUP', 'XINFO', 'OBJECT', 'MEMORY', 'FUNCTION', 'SCRIPT']);

export interface ServerExpectations {
  /** For messages. */
  address: string;
  /** Whether the connection follows redirections. */
  isCluster: boolean;
  /** As it goes over the wire. */
  namespace: string;
  /** Whose commands the server must know and allow. */
  scripts: Iterable<Script>;
}

/**
 * Looks at a server when it is first connected to. What makes it unfit is returned; what the user should know is logged, one line each.
 *
 * @returns why it cannot be used at all
 */
export async function checkServer(server: Redis, expected: ServerExpectations): Promise<string | undefined> {
  const { address } = expected;
  const [info, refused] = await Promise.all([
    server.info().catch((error: Error) => error),
    refusedCommands(server, expected),
  ]);
  if (refused.length > 0) {
    logger.error(
      `Redis at ${address} does not know, or does not allow this user: ${refused.join(', ')}. What needs them will fail; see docs/servers.md for the rights ` +
        `the library needs, with the namespace ${expected.namespace}`,
    );
  }
  if (info instanceof Error) {
    logger.warn(`What kind of server is at ${address} is not known, since INFO failed: ${info.message}`);
    return undefined;
  }
  const { product, version } = productOf(info);
  const problem = problemOf(product, version, info, expected);
  if (problem) {
    logger.error(problem);
    return problem;
  }
  logger.log(`Connected to ${product} ${version} at ${address}`);
  warnOfEviction(info, address);
  return undefined;
}

async function refusedCommands(server: Redis, { namespace, scripts }: ServerExpectations): Promise<string[]> {
  const commands = new Set([...COMMANDS, ...[...scripts].flatMap(({ lua }) => commandsOf(lua))]);
  try {
    return permissionsScript.reply(
      await server.call('EVAL_RO', permissionsScript.lua, 0, `${namespace}check`, ...commands),
    );
  } catch (error) {
    // Asking is a right of its own.
    return (error as Error).message.startsWith('NOPERM') ? ['EVAL_RO'] : [];
  }
}

/** The commands that a script names in its text. */
export function commandsOf(lua: string): string[] {
  const named = [...lua.matchAll(/redis\.p?call\(\s*['"](\w+)['"]/g)].map(([, name]) => name!.toUpperCase());
  return [...new Set(named)].filter((name) => !CONTAINERS.has(name));
}

function productOf(info: string): { product: string; version: string } {
  const valkey = field(info, 'valkey_version');
  if (valkey) return { product: 'Valkey', version: valkey };
  const dragonfly = field(info, 'dragonfly_version');
  if (dragonfly) return { product: 'Dragonfly', version: dragonfly };
  return { product: 'Redis', version: field(info, 'redis_version') ?? 'of unknown version' };
}

function problemOf(
  product: string,
  version: string,
  info: string,
  { address, isCluster }: ServerExpectations,
): string | undefined {
  if (product in OLDEST) {
    const oldest = OLDEST[product as keyof typeof OLDEST];
    const [major = NaN, minor = 0] = version.split('.').map(Number);
    if (major < oldest[0] || (major === oldest[0] && minor < oldest[1]))
      return `${product} ${version} at ${address} is too old: Redis ${OLDEST.Redis.join('.')} or Valkey ${OLDEST.Valkey.join('.')} is needed`;
  }
  if (field(info, 'cluster_enabled') === '1' && !isCluster)
    return `${address} is a node of a Cluster: pass connection: { nodes: [{ host, port }] }, so that keys are looked for where they are`;
  return undefined;
}

/** A server that deletes keys when its memory is full forgets what the library relies on. */
function warnOfEviction(info: string, address: string): void {
  const policy = field(info, 'maxmemory_policy');
  if (!policy || policy === 'noeviction' || !(Number(field(info, 'maxmemory')) > 0)) return;
  logger.warn(
    `Redis at ${address} evicts keys when its memory is full (maxmemory-policy ${policy}). An evicted idempotency record lets its method run again, and an ` +
      `evicted marker leaves an outcome unknown. Use maxmemory-policy noeviction, or a Redis of its own for these keys.`,
  );
}

const field = (info: string, name: string): string | undefined =>
  new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1];
