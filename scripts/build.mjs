import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, run, runAsMain } from './setup/process.mjs';
import { locked } from './setup/lock.mjs';

const sources = ['lib', 'sample-app', 'tsconfig.json', 'nest-cli.json', 'package.json', 'package-lock.json'];
const nest = join(root, 'node_modules', '@nestjs', 'cli', 'bin', 'nest.js');
// A build by hand empties this folder, and the stamp goes with what it vouches for.
const stampFile = join(root, 'dist', 'sample-app', '.built-from');
const entryFile = join(root, 'dist', 'lib', 'index.js');

/**
 * Builds library and sample app unless dist already comes from these very sources: another shop may
 * run from it.
 */
export async function build() {
  if (isBuilt()) return;
  await locked(async () => {
    const hash = hashOfSources();
    if (isBuilt(hash)) return;
    console.error('Building …');
    // One after the other: the app compiles against the library's built types.
    await run(process.execPath, [nest, 'build', 'library']);
    await run(process.execPath, [nest, 'build', 'sample-app']);
    // Sources saved while it compiled are not in it; their hash differs from this one, and the next
    // build sees that.
    writeFileSync(stampFile, hash);
  });
}

function isBuilt(hash = hashOfSources()) {
  try {
    return readFileSync(stampFile, 'utf8') === hash && statSync(entryFile).isFile();
  } catch {
    return false;
  }
}

function hashOfSources() {
  const hash = createHash('sha256');
  for (const source of sources) {
    for (const file of filesIn(source)) {
      const content = readFileSync(join(root, file));
      hash.update(`${file}\0${content.length}\0`).update(content);
    }
  }
  return hash.digest('hex');
}

function filesIn(path) {
  if (statSync(join(root, path)).isFile()) return [path];
  return readdirSync(join(root, path))
    .toSorted()
    .flatMap((name) => filesIn(`${path}/${name}`));
}

const usage = 'Usage: npm run build';

await runAsMain(import.meta.url, usage, build);
