import { Logger } from '@nestjs/common';
import type { Redis } from 'ioredis';
import { addressOf } from './client.js';
import type { KeySpace } from './key-space.js';
import { refusedCommands } from './refused-commands.js';
import { isConnectionLoss } from './reply-errors.js';
import { parseServerInfo, type ServerInfo } from './server-info.js';

const logger = new Logger('AtomicRedisModule');

const OLDEST = { Redis: [7, 0], Valkey: [8, 0] } as const;

/**
 * Looks at each server when it is first connected to. What makes it unfit is returned; what the user should know is logged, one line each.
 */
export class ServerChecks {
  private readonly made = new WeakMap<Redis, Promise<string | undefined>>();

  constructor(
    /** Whether the connection follows redirections. */
    private readonly isCluster: boolean,
    private readonly keys: KeySpace,
  ) {}

  /** Resolves with why one of them cannot be used. */
  async problemOf(servers: readonly Redis[]): Promise<string | undefined> {
    const found = await Promise.all(servers.map((server) => this.of(server)));
    return found.find((problem) => problem !== undefined);
  }

  /** Resolves with why the server cannot be used at all; undefined also where that could not be asked. */
  async of(server: Redis): Promise<string | undefined> {
    let check = this.made.get(server);
    if (!check) this.made.set(server, (check = this.check(server)));
    return await check.catch(() => {
      // Its connection was lost: the next one asks again.
      this.made.delete(server);
      return undefined;
    });
  }

  private async check(server: Redis): Promise<string | undefined> {
    const address = addressOf(server);
    const key = this.keys.own('check', 'rights');
    const [info, refused] = await Promise.all([
      server.info().catch((error: Error) => {
        if (isConnectionLoss(error)) throw error;
        return error;
      }),
      // The Cluster client, not its nodes, puts the prefix in front.
      refusedCommands(server, this.isCluster ? this.keys.keyPrefix + key : key, this.isCluster),
    ]);
    if (refused.length > 0) {
      logger.error(
        `Redis at ${address} does not know, or does not allow this user for ${this.keys.keyPrefix}${key}: ${refused.join(', ')}. What needs them will ` +
          `fail; docs/servers.md has the rights that the library needs`,
      );
    }
    if (info instanceof Error) {
      logger.warn(`What kind of server is at ${address} is not known, since INFO failed: ${info.message}`);
      return undefined;
    }
    const found = parseServerInfo(info);
    const isPart = !this.isCluster && /^cluster_enabled:1/m.test(info);
    const problem = isPart
      ? `${address} is a node of a Cluster: pass connection: { nodes: [{ host, port }] }, so that keys are looked for where they are`
      : problemOf(found, address);
    if (problem) {
      logger.error(problem);
      return problem;
    }
    logger.log(`Connected to ${found.product} ${found.version} at ${address}`);
    warnOfEviction(found, address);
    return undefined;
  }
}

function problemOf({ product, version }: ServerInfo, address: string): string | undefined {
  if (!(product in OLDEST)) return undefined;
  const oldest = OLDEST[product as keyof typeof OLDEST];
  const [major = NaN, minor = 0] = version.split('.').map(Number);
  return major < oldest[0] || (major === oldest[0] && minor < oldest[1])
    ? `${product} ${version} at ${address} is too old: Redis ${OLDEST.Redis.join('.')} or Valkey ${OLDEST.Valkey.join('.')} is needed`
    : undefined;
}

/** A server that deletes keys when its memory is full forgets what the library relies on. */
function warnOfEviction({ evictionPolicy }: ServerInfo, address: string): void {
  if (!evictionPolicy) return;
  logger.warn(
    `Redis at ${address} evicts keys when its memory is full (maxmemory-policy ${evictionPolicy}). An evicted idempotency record lets its method run again, and an ` +
      `evicted marker leaves an outcome unknown. Use maxmemory-policy noeviction, or a Redis of its own for these keys.`,
  );
}
