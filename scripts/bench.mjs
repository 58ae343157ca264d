import { join } from 'node:path';
import { root, run, runAsMain, start } from './setup/process.mjs';
import { build } from './build.mjs';
import { setup } from './setup.mjs';

/** Measures the library as it ships: `npm run bench`, `npm run bench -- counter-hot`. */
await runAsMain(import.meta.url, async () => {
  const env = await setup({ needServer: true, ownServer: true });
  await build();
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  await run(process.execPath, [tsc, '-p', 'bench/tsconfig.bench.json']);
  return start(process.execPath, ['dist/bench/main.js', ...process.argv.slice(2)], { env });
});
