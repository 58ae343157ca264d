import { ScriptError, runAsMain } from './setup/process.mjs';
import { setUpChromium } from './setup/chromium.mjs';
import { setUpCurl } from './setup/curl.mjs';
import { setUpDependencies } from './setup/dependencies.mjs';
import { setUpRabbit } from './setup/rabbitmq.mjs';
import { setUpRedis } from './setup/redis.mjs';

/**
 * Makes a fresh checkout ready to build and run: dependencies and, with `needServer`, a Redis
 * server program, which with `ownServer` REDIS_URL does not stand in for; with `needCurl`, curl;
 * with `needChromium`, a browser; with `needRabbit`, a RabbitMQ. Does nothing where all is there.
 * Returns the environment for the commands that follow.
 */
export async function setup({
  needServer,
  ownServer = false,
  needCurl = false,
  needChromium = false,
  needRabbit = false,
}) {
  checkNode(process.versions.node);
  await setUpDependencies();
  const server = needServer ? await setUpRedis({ ownServer }) : null;
  if (needCurl) await setUpCurl();
  const chromium = needChromium ? await setUpChromium() : null;
  const rabbit = needRabbit ? await setUpRabbit() : null;
  return {
    ...process.env,
    ...(server && { REDIS_SERVER_BINARY: server }),
    ...(chromium && { CHROMIUM_BIN: chromium }),
    ...(rabbit && { RABBITMQ_SERVER_BINARY: rabbit }),
  };
}

function checkNode(version) {
  const [major, minor] = version.split('.').map(Number);
  if (major >= 24 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19)) return;
  throw new ScriptError(
    `Node.js ${version} cannot run this: version 20.19 or later, 22.12 or later, or 24 is needed.`,
  );
}

const usage = `Usage: npm run setup
  Makes a fresh checkout ready to build and run: dependencies, and a Redis server program`;

await runAsMain(import.meta.url, usage, async () => {
  await setup({ needServer: true });
});
