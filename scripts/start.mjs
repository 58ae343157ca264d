import { runAsMain, start } from './setup/process.mjs';
import { setup } from './setup.mjs';
import { build } from './build.mjs';

const usage = `Usage: npm start
  Runs the shop and its race lab on a Redis of its own. Where REDIS_URL is set, runs the shop there, without the lab.`;

await runAsMain(import.meta.url, usage, async () => {
  const env = await setup({ needServer: true });
  await build();
  // The channel carries nothing: it closes when this process dies, however it dies, and the shop
  // goes with it.
  return start(process.execPath, ['dist/sample-app/main.js'], {
    env,
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  });
});
