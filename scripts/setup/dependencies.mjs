import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { locked } from './lock.mjs';
import { runNpm } from './npm.mjs';
import { root } from './process.mjs';

/** Installs what package-lock.json names, unless node_modules already holds exactly that. */
export async function setUpDependencies() {
  if (isInstalled()) return;
  await locked(async () => {
    if (isInstalled()) return;
    console.error('Installing the dependencies …');
    // NODE_ENV=production would otherwise leave out what builds and tests need.
    await runNpm(['ci', '--include=dev', '--no-fund', '--no-audit']);
  });
}

/**
 * npm writes node_modules/.package-lock.json last, as the record of what it installed: an aborted
 * install has none.
 */
function isInstalled() {
  const wanted = packagesOf(join(root, 'package-lock.json'));
  const present = packagesOf(join(root, 'node_modules', '.package-lock.json'));
  if (!wanted || !present) return false;
  for (const [path, { version, integrity, optional }] of Object.entries(wanted)) {
    if (path === '') continue;
    const found = present[path];
    if (!found ? !optional : found.version !== version || found.integrity !== integrity) return false;
  }
  return Object.keys(present).every((path) => path in wanted);
}

function packagesOf(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8')).packages;
  } catch (error) {
    if (error.code === 'ENOENT' || error instanceof SyntaxError) return null;
    throw error;
  }
}
