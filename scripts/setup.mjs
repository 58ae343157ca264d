import { ScriptError, runAsMain } from './setup/process.mjs';
import { setUpCurl } from './setup/curl.mjs';
import { setUpDependencies } from './setup/dependencies.mjs';
import { setUpRedis } from './setup/redis.mjs';

/**
 * Makes a fresh checkout ready to build and run: dependencies and, with `needServer`, a Redis server program, which with
 * `ownServer` REDIS_URL does not stand in for; with `needCurl`, curl. Does nothing where all is there. Returns the environment for the commands that follow.
 */
export async function setup({ needServer, ownServer = false, needCurl = false }) {
  checkNode(process.versions.node);
  await setUpDependencies();
  const server = needServer ? await setUpRedis({ ownServer }) : null;
  if (needCurl) await setUpCurl();
  return server ? { ...process.env, REDIS_SERVER_BINARY: server } : { ...process.env };
}

function checkNode(version) {
  const [major, minor] = version.split('.').map(Number);
  if (major >= 24 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19)) return;
  throw new ScriptError(
    `Node.js ${version} cannot run this: version 20.19 or later, 22.12 or later, or 24 is needed.`,
  );
}

await runAsMain(import.meta.url, async () => {
  await setup({ needServer: true });
});
