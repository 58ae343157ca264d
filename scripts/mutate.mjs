import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { output, root, runAsMain, ScriptError, start } from './setup/process.mjs';
import { setup } from './setup.mjs';

/**
 * Breaks one invariant at a time in a copy of the tree, and checks that its spec notices: `npm run mutate`, or
 * `npm run mutate -- NAME` for some. The mutations are in test/mutations.json.
 */
await runAsMain(import.meta.url, async () => {
  const mutations = chosen(JSON.parse(readFileSync(join(root, 'test/mutations.json'), 'utf8')));
  const env = await setup({ needServer: true, ownServer: true });
  const copy = copyOfTree();
  const survived = [];
  try {
    for (const mutation of mutations) {
      const noticed = await isNoticed(mutation, copy, env);
      if (!noticed) survived.push(mutation.name);
      console.log(
        `${noticed ? 'noticed ' : 'SURVIVED'}  ${mutation.name} [${mutation.guarantee}]: ${mutation.invariant}`,
      );
    }
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
  console.log(`${mutations.length - survived.length} noticed, ${survived.length} survived`);
  return survived.length === 0 ? 0 : 1;
});

function chosen(mutations) {
  const names = process.argv.slice(2);
  const unknown = names.find((name) => !mutations.some((mutation) => mutation.name === name));
  if (unknown) throw new ScriptError(`No mutation is called ${unknown}: see test/mutations.json.`);
  return names.length === 0 ? mutations : mutations.filter(({ name }) => names.includes(name));
}

/** Copies what git knows or would take, with changes that are not committed; node_modules is shared. */
function copyOfTree() {
  const copy = mkdtempSync(join(tmpdir(), 'mutations-'));
  const listed = output('git', ['ls-files', '--cached', '--others', '--exclude-standard', '--deduplicate'], {
    cwd: root,
  });
  if (listed === null) throw new ScriptError('git cannot list the files of this directory');
  const deleted = new Set(output('git', ['ls-files', '--deleted'], { cwd: root })?.split('\n'));
  for (const file of listed.split('\n')) {
    if (!deleted.has(file)) cpSync(join(root, file), join(copy, file), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'), 'dir');
  return copy;
}

/** A spec notices only by a test of that title which ran and failed. A file that does not compile is an error. */
async function isNoticed(mutation, copy, env) {
  const file = join(copy, mutation.file);
  const text = readFileSync(file, 'utf8');
  if (text.split(mutation.replace).length !== 2)
    throw new ScriptError(`${mutation.name}: its text is not there exactly once in ${mutation.file}`);
  const results = join(copy, 'mutation-results.json');
  const title = mutation.title.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const jest = ['node_modules/jest/bin/jest.js', '--rootDir', copy, '--json', `--outputFile=${results}`];
  try {
    writeFileSync(
      file,
      text.replace(mutation.replace, () => mutation.with),
    );
    await start(process.execPath, [...jest, '--runTestsByPath', mutation.spec, '-t', title], {
      cwd: copy,
      env,
      stdio: 'ignore',
    });
  } finally {
    writeFileSync(file, text);
  }
  const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(results, 'utf8'));
  rmSync(results);
  if (numPassedTests + numFailedTests === 0)
    throw new ScriptError(
      `${mutation.name}: no test of ${mutation.spec} ran with the title "${mutation.title}"`,
    );
  return numFailedTests > 0;
}
