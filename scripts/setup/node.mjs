import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { runNpm } from './npm.mjs';
import { ScriptError } from './process.mjs';
import { serversDirectory } from './servers.mjs';

/**
 * The program of another Node.js, beside the servers of the matrix: npm has one package for each
 * system.
 */
export async function setUpNode(major) {
  if (!/^\d+$/.test(major)) throw new ScriptError(`A version of Node.js is a number, received "${major}".`);
  const name = `node-${process.platform}-${process.arch}`;
  const directory = join(serversDirectory(), `node-${major}`);
  const program = join(directory, 'node_modules', name, 'bin', 'node');
  if (!existsSync(program)) {
    mkdirSync(directory, { recursive: true });
    await runNpm([
      'install',
      ...['--no-save', '--no-audit', '--no-fund', '--loglevel=error', '--prefix', directory],
      `${name}@${major}`,
    ]);
  }
  return program;
}
