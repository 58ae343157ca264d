import { join } from 'node:path';
import { root, runAsMain, start } from './setup/process.mjs';
import { findServers } from './setup/servers.mjs';
import { setup } from './setup.mjs';

const usage = `Usage: npm run compare -- [--seed n] [--runs n] [--run i] [--only job/peer/fault …] [--lanes n] [--short] [--write] [--save file] [--from file …]
  --only   parts of the names of cells, such as counter, queue/bullmq, run-once/powertools/kill; / separates, * stands for any part
  --run    this run alone, of those that --runs counts
  --lanes  cells at a time; most of the time they wait
  --short  the cells of the check in CI, judged
  --write  writes docs/comparison.md
  --save   writes the results to a file
  --from   writes docs/comparison.md from such files; a cell of a later file replaces that of an earlier one`;

/**
 * Runs the library and its peers under the same faults: `npm run compare`. `--write` writes
 * docs/comparison.md.
 */
await runAsMain(import.meta.url, usage, async () => {
  // It kills and restarts its servers: never one that REDIS_URL names.
  const env = await setup({ needServer: true, ownServer: true });
  for (const [name, path] of findServers()) {
    env[`${name.toUpperCase().replace('-', '_')}_BINARY`] ??= path;
  }
  const runner = [join(root, 'test/support/run-ts.cjs'), join(root, 'compare/main.ts')];
  return start(process.execPath, [...runner, ...process.argv.slice(2)], { env });
});
