import { Redis } from 'ioredis';
import { startRedisServer } from 'nestjs-atomic-redis/testing';
import type { Peer } from './peers.js';

export interface Server {
  /** Undefined for the default one. */
  readonly binary: string | undefined;
  /** Product and version. */
  readonly name: string;
}

/** Programs of servers with commands that the default one lacks, by the variables of the tests. */
const candidates: readonly (string | undefined)[] = [
  undefined,
  ...['VALKEY_9_BINARY', 'REDIS_8_BINARY', 'VALKEY_8_BINARY']
    .map((name) => process.env[name])
    .filter((path) => path !== undefined),
];
const found = new Map<string, Promise<Server | undefined>>();

/** @returns undefined when no server here has what the peer needs */
export function serverFor({ needs = '' }: Peer): Promise<Server | undefined> {
  const known = found.get(needs) ?? find(needs);
  found.set(needs, known);
  return known;
}

async function find(needs: string): Promise<Server | undefined> {
  for (const binary of candidates) {
    const server = await startRedisServer({ ...(binary && { binary }) });
    const client = new Redis(server.url);
    try {
      if (await has(client, needs)) return { binary, name: await nameOf(client) };
    } finally {
      client.disconnect();
      await server.stop();
    }
  }
  return undefined;
}

async function has(client: Redis, needs: string): Promise<boolean> {
  if (needs === '') return true;
  if (needs === 'SET IFEQ')
    return await client.call('SET', 'probe', '1', 'IFEQ', '0').then(
      () => true,
      () => false,
    );
  const [info] = (await client.call('COMMAND', 'INFO', needs)) as unknown[];
  return Boolean(info);
}

async function nameOf(client: Redis): Promise<string> {
  const info = await client.info('server');
  const valkey = /valkey_version:(\S+)/.exec(info)?.[1];
  return valkey ? `Valkey ${valkey}` : `Redis ${/redis_version:(\S+)/.exec(info)?.[1]}`;
}
