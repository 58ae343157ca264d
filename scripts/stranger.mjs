import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setUpCurl } from './setup/curl.mjs';
import { root, runAsMain, ScriptError } from './setup/process.mjs';
import { setup } from './setup.mjs';
import { build } from './build.mjs';
import { freePort, withRedis } from './smoke/redis.mjs';
import { pack } from './smoke/tarball.mjs';
import { quickStart } from './stranger/quick-start.mjs';
import { Terminal } from './stranger/terminal.mjs';

const usage = `Usage: npm run stranger
  Types README's quick start, step by step, into an empty folder`;

/**
 * Types what README's quick start says, step by step, into an empty folder, with the package that
 * npm would publish in place of its name.
 */
await runAsMain(import.meta.url, usage, async () => {
  const env = await setup({ needServer: true, ownServer: true });
  await setUpCurl();
  await build();
  const directory = mkdtempSync(join(tmpdir(), 'stranger-'));
  try {
    const tarball = pack(directory);
    const steps = quickStart(readFileSync(join(root, 'README.md'), 'utf8'));
    await withRedis(env.REDIS_SERVER_BINARY, directory, async (redisUrl) => {
      const port = await freePort();
      const folder = join(directory, 'empty');
      mkdirSync(folder);
      const terminal = new Terminal(folder, { ...env, REDIS_URL: redisUrl, PORT: String(port) });
      const here = (text) =>
        text
          .replaceAll('localhost:3000', `127.0.0.1:${port}`)
          .replace(/(npm install )nestjs-atomic-redis\b/, `$1${tarball}`);
      try {
        for (const step of steps) await take(step, { terminal, folder, here });
      } finally {
        await terminal.close();
      }
    });
    console.log(`The quick start of README.md works: ${steps.length} steps.`);
    return 0;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

async function take(step, { terminal, folder, here }) {
  if (step.kind === 'file') {
    console.log(`${step.path} (${step.text.split('\n').length - 1} lines)`);
    mkdirSync(dirname(join(folder, step.path)), { recursive: true });
    writeFileSync(join(folder, step.path), step.text);
  } else if (step.kind === 'commands') {
    for (const command of step.commands) {
      console.log(`$ ${command}`);
      await terminal.type(here(command));
    }
  } else if (!step.expected.test(terminal.lastOutput)) {
    throw new ScriptError(
      `README.md says that this is printed:\n${step.text}\nPrinted was:\n${terminal.lastOutput}`,
    );
  }
}
