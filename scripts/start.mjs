import { runAsMain, start } from './setup/process.mjs';
import { setup } from './setup.mjs';
import { build } from './build.mjs';

await runAsMain(import.meta.url, async () => {
  const env = await setup({ needServer: true });
  await build();
  // The channel carries nothing: it closes when this process dies, however it dies, and the shop goes with it.
  return start(process.execPath, ['dist/sample-app/main.js'], {
    env,
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  });
});
