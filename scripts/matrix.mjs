import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, relative } from 'node:path';
import { root, runAsMain, ScriptError, start } from './setup/process.mjs';
import { setUpNode } from './setup/node.mjs';
import { findServers, KINDS } from './setup/servers.mjs';
import { setup } from './setup.mjs';
import { build } from './build.mjs';
import { runToolchains } from './toolchains.mjs';

const TARGETS = ['standalone', 'cluster'];

/** The double of Dragonfly that the tests have, in front of the Redis that is installed. */
const DOUBLE = 'dragonfly-double';

/** A server that is there already; it is emptied. */
const GIVEN = { name: 'dragonfly', variable: 'DRAGONFLY_URL' };

const usage = `Usage: npm run test:matrix -- [--contract] [server[/target]…]
       npm run test:matrix -- --node version… [test/folder…]
       npm run test:matrix -- --toolchains [toolchain…]
  server        ${KINDS.map(({ name }) => name).join(', ')}; all of them by default,
                ${DOUBLE}: test/contract on Redis 7 behind a proxy that behaves as Dragonfly,
                and ${GIVEN.name}: test/contract on the server at ${GIVEN.variable}, which is emptied, where that is set
  target        ${TARGETS.join(' or ')}; both by default
  --contract    only test/contract, which runs unchanged on either target; without it every test runs on a standalone server
  --node        every test, or those of the folders, on other versions of Node.js, such as 22 24 26
  --toolchains  projects of the CLI with each builder and test runner, as "npm run toolchains" has them
A server that is not on this machine is skipped. "npm run servers" unpacks them; or name one's program: ${KINDS.map(({ variable }) => variable).join(', ')}.`;

await runAsMain(import.meta.url, usage, async () => {
  const [kind, ...rest] = process.argv.slice(2);
  if (kind === '--toolchains') return await tryToolchains(rest);
  const rows = await (kind === '--node' ? onNodes(rest) : onServers(process.argv.slice(2)));
  printTable(rows);
  return rows.some(({ suites }) => suites && total([suites]).failed > 0) ? 1 : 0;
});

async function tryToolchains(names) {
  const rows = await runToolchains(names);
  const failed = rows.filter(({ error }) => error).length;
  console.log(`${rows.length - failed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

async function onNodes(args) {
  const folders = args.filter((arg) => arg.startsWith('test/'));
  const versions = args.filter((arg) => !folders.includes(arg));
  if (versions.length === 0) throw new ScriptError(usage);
  const env = await setup({ needServer: true, ownServer: true });
  await build();
  const rows = [];
  for (const version of versions) {
    const program = await setUpNode(version);
    // First on the path too, for what a test starts by name.
    const path = [dirname(program), env.PATH].join(delimiter);
    rows.push({ name: `node ${version}`, suites: await runJest(folders, { ...env, PATH: path }, program) });
  }
  return rows;
}

async function onServers(args) {
  const contractOnly = args.includes('--contract');
  const cells = cellsOf(args.filter((arg) => arg !== '--contract'));
  const env = await setup({ needServer: true, ownServer: true });
  // The tests of the shop run what is built.
  if (!contractOnly) await build();
  const servers = findServers();
  const suitesOf = async (server, target) => {
    if (server === GIVEN.name) {
      // One server for all: one file at a time.
      const chosen = ['test/contract', '--runInBand'];
      return process.env[GIVEN.variable] && (await runJest(chosen, { ...env, TEST_TARGET: target }));
    }
    const path = servers.get(server === DOUBLE ? KINDS[0].name : server);
    const chosen = target !== 'standalone' || contractOnly ? ['test/contract'] : [];
    return (
      path &&
      (await runJest(chosen, {
        ...env,
        TEST_REDIS_BINARY: path,
        TEST_TARGET: target,
        SERVICE_PROFILES: 'all',
      }))
    );
  };
  const rows = [];
  for (const { server, target } of cells) {
    rows.push({ name: `${server}/${target}`, suites: await suitesOf(server, target) });
  }
  return rows;
}

function cellsOf(names) {
  const given = process.env[GIVEN.variable] ? [GIVEN.name] : [];
  const wanted = names.length > 0 ? names : [...KINDS.map(({ name }) => name), DOUBLE, ...given];
  return wanted.flatMap((name) => {
    if (name === GIVEN.name) return [{ server: name, target: 'url' }];
    if (name === DOUBLE) return [{ server: name, target: DOUBLE }];
    const [server, target] = name.split('/');
    const known = KINDS.some((kind) => kind.name === server) && (!target || TARGETS.includes(target));
    if (!known) throw new ScriptError(`Unknown: ${name}\n${usage}`);
    return (target ? [target] : TARGETS).map((one) => ({ server, target: one }));
  });
}

/**
 * Counts by folder of test/. A run that broke off, or a file that did not run, counts as a failure.
 */
async function runJest(chosen, env, program = process.execPath) {
  const directory = mkdtempSync(join(tmpdir(), 'test-matrix-'));
  try {
    const file = join(directory, 'results.json');
    const args = ['node_modules/jest/bin/jest.js', '--silent', '--json', `--outputFile=${file}`, ...chosen];
    const exitCode = await start(program, args, { env });
    const suites = countsOf(read(file));
    if (exitCode !== 0 && total([suites]).failed === 0)
      suites.set('(run)', { passed: 0, failed: 1, skipped: 0 });
    return suites;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function countsOf(results) {
  const suites = new Map();
  for (const { name, assertionResults, status } of results?.testResults ?? []) {
    const folder = relative(join(root, 'test'), name).split(/[\\/]/)[0];
    const counts = suites.get(folder) ?? { passed: 0, failed: 0, skipped: 0 };
    for (const test of assertionResults)
      counts[test.status === 'passed' || test.status === 'failed' ? test.status : 'skipped']++;
    if (assertionResults.length === 0 && status === 'failed') counts.failed++;
    suites.set(folder, counts);
  }
  return suites;
}

function read(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
}

/** Suites down, servers across: passed/failed/skipped. */
function printTable(rows) {
  const folders = [...new Set(rows.flatMap(({ suites }) => [...(suites?.keys() ?? [])]))].toSorted((a, b) =>
    a < b ? -1 : 1,
  );
  const cell = ({ suites }, folder) => {
    if (!suites) return folder === 'all' ? 'not found' : '';
    const counts = folder === 'all' ? total([suites]) : suites.get(folder);
    return counts ? `${counts.passed}/${counts.failed}/${counts.skipped}` : '–';
  };
  const lines = [
    ['passed/failed/skipped', ...rows.map(({ name }) => name)],
    ...[...folders, 'all'].map((folder) => [folder, ...rows.map((row) => cell(row, folder))]),
  ];
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  console.log(
    `\n${lines.map((line) => line.map((text, i) => text.padEnd(widths[i])).join('  ')).join('\n')}\n`,
  );
  const { passed, failed, skipped } = total(rows.flatMap(({ suites }) => suites || []));
  const missing = rows.filter(({ suites }) => !suites).length;
  console.log(`${passed} passed, ${failed} failed, ${skipped + missing} skipped`);
}

function total(maps) {
  const sum = { passed: 0, failed: 0, skipped: 0 };
  for (const map of maps)
    for (const counts of map.values()) for (const key of Object.keys(sum)) sum[key] += counts[key];
  return sum;
}
