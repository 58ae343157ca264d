import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { runNpm } from './npm.mjs';
import { serversDirectory } from './servers.mjs';

const PACKAGES = [
  ...['common', 'core', 'platform-express', 'platform-fastify'].map((name) => `@nestjs/${name}@10.4.22`),
  '@node-idempotency/nestjs@1.0.4',
  '@node-idempotency/storage-adapter-redis@1.0.2',
  'reflect-metadata@0.2.2',
  'rxjs@7.8.2',
];

/**
 * A folder with Nest 10 and @node-idempotency/nestjs, which does not support a later one: for the
 * benchmarks.
 */
export async function setUpNest10() {
  const directory = join(serversDirectory(), 'nest-10');
  if (existsSync(directory)) return directory;
  // Takes its name once it is whole.
  const unfinished = `${directory}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  await runNpm([
    'install',
    ...['--no-save', '--no-audit', '--no-fund', '--loglevel=error', '--prefix', unfinished],
    ...PACKAGES,
  ]);
  renameSync(unfinished, directory);
  return directory;
}
