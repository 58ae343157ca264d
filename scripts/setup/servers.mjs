import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { output, root } from './process.mjs';
import { findRedisServer } from './redis-binary.mjs';

/** The servers that the matrix knows, each with the environment variable that names its program. */
export const KINDS = [
  { name: 'redis-7', product: 'Redis', major: 7, variable: 'REDIS_7_BINARY' },
  { name: 'redis-8', product: 'Redis', major: 8, variable: 'REDIS_8_BINARY' },
  { name: 'valkey-8', product: 'Valkey', major: 8, variable: 'VALKEY_8_BINARY' },
  { name: 'valkey-9', product: 'Valkey', major: 9, variable: 'VALKEY_9_BINARY' },
];

/** Folder for the servers of `npm run servers`; `SERVERS_DIR` names another. */
export const serversDirectory = () => process.env.SERVERS_DIR || join(root, '.servers');

/**
 * Name to path, of those that are on this machine: named by their variable, unpacked, or installed.
 */
export function findServers() {
  const installed = findRedisServer().path;
  const found = new Map();
  for (const kind of KINDS) {
    const candidates = [process.env[kind.variable], join(serversDirectory(), kind.name), installed];
    const path = candidates.find(
      (candidate) => candidate && existsSync(candidate) && isKind(candidate, kind),
    );
    if (path) found.set(kind.name, path);
  }
  return found;
}

function isKind(path, { product, major }) {
  const text = output(path, ['--version']) ?? '';
  return new RegExp(`^${product} server v=${major}\\.`, 'i').test(text);
}
