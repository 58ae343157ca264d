import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, runAsMain, ScriptError, start } from './setup/process.mjs';
import { setup } from './setup.mjs';
import { build } from './build.mjs';
import { guaranteeId, specsByGuarantee } from './guarantees/specs-by-guarantee.mjs';
import { WORKERS } from './tests/sequencer.mjs';
import { recordSlowSpecs, specPath } from './tests/slow-specs.mjs';

const RECORD_TIMES = '--record-times';
const SLOWEST_SHOWN = 10;

const usage = `Usage: npm test [-- PATH… | ID… | Jest's options] [--record-times]
  PATH            specs or folders, such as test/counters
  ID              guarantees of docs/guarantees.md, such as TX-1: their tests alone
  --record-times  writes the time of each slow spec into test/slow-specs.json, for the order of a whole run`;

await runAsMain(import.meta.url, usage, async () => {
  // Tests kill, restart and empty servers: never one that REDIS_URL names.
  const env = await setup({
    needServer: true,
    ownServer: true,
    needCurl: true,
    needChromium: true,
    needRabbit: true,
  });
  const given = process.argv.slice(2);
  const args = jestArguments(given.filter((arg) => arg !== RECORD_TIMES));
  if (args.some((arg) => arg.startsWith('--watch')))
    return start(process.execPath, ['node_modules/jest/bin/jest.js', ...args], { env });
  const isWhole = args.length === 0;
  // The few specs that need the build make it themselves; a run of everything has it made before,
  // beside nothing else.
  if (isWhole) await build();
  const run = await runJest(isWhole ? [`--maxWorkers=${WORKERS}`] : args, env);
  const seconds = secondsBySpec(run);
  if (isWhole) console.log(slowest(seconds));
  if (given.includes(RECORD_TIMES)) await recordSlowSpecs(seconds);
  console.log(summary(run));
  return run.exitCode;
});

/** Runs Jest. `results` is null if it broke off without any. */
async function runJest(args, env) {
  const directory = mkdtempSync(join(tmpdir(), 'test-results-'));
  try {
    const file = join(directory, 'results.json');
    // Options that take a list come last: nothing may follow them.
    const jest = ['node_modules/jest/bin/jest.js', '--json', `--outputFile=${file}`, ...args];
    const exitCode = await start(process.execPath, jest, { env });
    return { exitCode, results: read(file) };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

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

/**
 * Counts every failure of Jest: also a suite that did not run, or a run that broke off without
 * results.
 */
function summary({ results, exitCode }) {
  const passed = results?.numPassedTests ?? 0;
  const skipped = (results?.numPendingTests ?? 0) + (results?.numTodoTests ?? 0);
  const known = (results?.numFailedTests ?? 0) + (results?.numRuntimeErrorTestSuites ?? 0);
  const failed = known === 0 && exitCode !== 0 ? 1 : known;
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

function secondsBySpec({ results }) {
  return Object.fromEntries(
    (results?.testResults ?? []).map(({ name, startTime, endTime }) => [
      specPath(root, name),
      Math.round((endTime - startTime) / 1_000),
    ]),
  );
}

function slowest(seconds) {
  const shown = Object.entries(seconds)
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, SLOWEST_SHOWN)
    .map(([spec, time]) => `  ${time} s  ${spec}`);
  return ['The slowest specs:', ...shown].join('\n');
}

function read(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
}
