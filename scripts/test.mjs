import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, runAsMain, ScriptError, start } from './setup/process.mjs';
import { setup } from './setup.mjs';
import { build } from './build.mjs';
import { guaranteeId, specsByGuarantee } from './guarantees/specs-by-guarantee.mjs';

await runAsMain(import.meta.url, async () => {
  // Tests kill, restart and empty servers: never one that REDIS_URL names.
  const env = await setup({
    needServer: true,
    ownServer: true,
    needCurl: true,
    needChromium: true,
    needRabbit: true,
  });
  const args = jestArguments(process.argv.slice(2));
  // The few specs that need the build make it themselves; a run of everything has it made before, beside nothing else.
  if (args.length === 0) await build();
  if (args.some((arg) => arg.startsWith('--watch')))
    return start(process.execPath, ['node_modules/jest/bin/jest.js', ...args], { env });
  const directory = mkdtempSync(join(tmpdir(), 'test-results-'));
  try {
    const results = join(directory, 'results.json');
    const jest = ['node_modules/jest/bin/jest.js', '--json', `--outputFile=${results}`, ...args];
    const exitCode = await start(process.execPath, jest, { env });
    console.log(summary(read(results), exitCode));
    return exitCode;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

/** An argument that is a guarantee's id stands for its tests. */
function jestArguments(args) {
  const ids = args.filter((arg) => new RegExp(`^${guaranteeId}$`).test(arg));
  if (ids.length === 0) return args;
  const specs = specsByGuarantee(root);
  const unknown = ids.find((id) => !specs.has(id));
  if (unknown) throw new ScriptError(`No test carries [${unknown}] in its title: see docs/guarantees.md.`);
  const files = new Set(ids.flatMap((id) => [...specs.get(id)]));
  const title = ids.map((id) => `\\[${id}\\]`).join('|');
  return [...args.filter((arg) => !ids.includes(arg)), '-t', title, '--runTestsByPath', ...files];
}

/** Whatever makes Jest fail is counted: also a suite that did not run, or a run that broke off without results. */
function summary(results, exitCode) {
  const passed = results?.numPassedTests ?? 0;
  const skipped = (results?.numPendingTests ?? 0) + (results?.numTodoTests ?? 0);
  const failed = (results?.numFailedTests ?? 0) + (results?.numRuntimeErrorTestSuites ?? 0);
  return `${passed} passed, ${failed === 0 && exitCode !== 0 ? 1 : failed} failed, ${skipped} skipped`;
}

function read(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
}
