import { join } from 'node:path';
import { root, runAsMain, start } from './setup/process.mjs';
import { setup } from './setup.mjs';

/** Runs the library for minutes under faults: `npm run soak -- transactions`. */
await runAsMain(import.meta.url, async () => {
  // It kills and restarts its server: never one that REDIS_URL names.
  const env = await setup({ needServer: true, ownServer: true });
  const runner = [join(root, 'test/support/run-ts.cjs'), join(root, 'test/soak/main.ts')];
  return start(process.execPath, [...runner, ...process.argv.slice(2)], { env });
});
