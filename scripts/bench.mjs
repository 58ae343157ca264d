import { parseArgs } from 'node:util';
import { delimiter, dirname, join } from 'node:path';
import { root, run, runAsMain, ScriptError, start } from './setup/process.mjs';
import { build } from './build.mjs';
import { setUpNest10 } from './setup/nest-10.mjs';
import { setUpNode } from './setup/node.mjs';
import { findServers, KINDS } from './setup/servers.mjs';
import { setup } from './setup.mjs';

const usage = `Usage: npm run bench [-- name…] [--node 24] [--server valkey-9] [--record] [--short] [--rounds 9] [--round-ms 1000]
  name      a benchmark or a group of them, such as counter-hot or per-core; everything by default
  --node    the version of Node.js to measure on; npm has it
  --server  the server to measure on, as "npm run servers" unpacks it
  --record  writes what was measured into bench/results.md; a run of everything does so by itself
  --short   runs each once for a moment, to see that it works; measures nothing`;

const options = {
  node: { type: 'string' },
  server: { type: 'string' },
  rounds: { type: 'string', default: '9' },
  'round-ms': { type: 'string', default: '1000' },
  record: { type: 'boolean', default: false },
  short: { type: 'boolean', default: false },
};

/** Measures the library as it ships: `npm run bench`, `npm run bench -- counter-hot --node 24`. */
await runAsMain(import.meta.url, usage, async () => {
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const { node, server, short, record, rounds, 'round-ms': roundMs } = values;
  const env = await setup({ needServer: true, ownServer: true });
  if (server) env.TEST_REDIS_BINARY = programOf(server);
  // A peer of the endpoint; the short form says nothing of speed, and needs no network.
  if (!short && (positionals.length === 0 || positionals.includes('endpoint')))
    env.BENCH_NEST_10 = await setUpNest10();
  await build();
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  await run(process.execPath, [tsc, '-p', 'bench/tsconfig.bench.json']);
  const program = node ? await setUpNode(node) : process.execPath;
  // First on the path too, for what a benchmark starts by name.
  env.PATH = [dirname(program), env.PATH].join(delimiter);
  /** @type {import('../bench/main.js').Order} */
  const order = {
    names: positionals,
    namesServer: server !== undefined,
    isShort: short,
    isRecorded: !short && (record || positionals.length === 0),
    settings: short
      ? { rounds: 1, roundMs: 60, warmUpMs: 30 }
      : { rounds: Number(rounds), roundMs: Number(roundMs), warmUpMs: 1_000 },
  };
  const code = await start(program, ['dist/bench/main.js', JSON.stringify(order)], { env });
  const prettier = join(root, 'node_modules', 'prettier', 'bin', 'prettier.cjs');
  await run(process.execPath, [prettier, '--log-level', 'warn', '--write', 'bench/results.md']);
  return code;
});

function programOf(server) {
  const program = findServers().get(server);
  if (program) return program;
  const names = KINDS.map(({ name }) => name);
  throw new ScriptError(
    names.includes(server)
      ? `No ${server} is on this machine: npm run servers -- ${server}`
      : `Unknown server ${server}: ${names.join(', ')}`,
  );
}
