import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runAsMain, ScriptError } from './setup/process.mjs';
import { setup } from './setup.mjs';
import { build } from './build.mjs';
import { withRedis } from './smoke/redis.mjs';
import { pack } from './smoke/tarball.mjs';
import { TOOLCHAINS } from './toolchains/list.mjs';
import { walk } from './toolchains/walk.mjs';

const usage = `Usage: npm run toolchains -- [toolchain…]
  toolchain  ${TOOLCHAINS.map(({ name }) => name).join(', ')}; all of them by default`;

await runAsMain(import.meta.url, usage, async () => {
  const rows = await runToolchains(process.argv.slice(2));
  const failed = rows.filter(({ error }) => error).length;
  console.log(`${rows.length - failed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
});

/**
 * Takes a stranger's path with each toolchain: a project of the CLI, the package as npm would
 * publish it, README's example.
 */
export async function runToolchains(names) {
  const chosen = names.length === 0 ? TOOLCHAINS : names.map(named);
  const needRabbit = chosen.some(({ ownSpecs }) => ownSpecs);
  const env = await setup({ needServer: true, ownServer: true, needRabbit });
  await build();
  const directory = mkdtempSync(join(tmpdir(), 'toolchains-'));
  try {
    const tarball = pack(directory);
    const rows = [];
    await withRedis(env.REDIS_SERVER_BINARY, directory, async (redisUrl) => {
      for (const toolchain of chosen) {
        const began = Date.now();
        const error = await walk(toolchain, {
          directory: join(directory, toolchain.name),
          tarball,
          env: { ...env, REDIS_URL: redisUrl },
        }).then(
          () => undefined,
          (reason) => reason,
        );
        const seconds = Math.round((Date.now() - began) / 1_000);
        console.log(`${toolchain.name}: ${error ? `FAILED\n${error.message}` : 'ok'} after ${seconds} s`);
        rows.push({ name: toolchain.name, error, seconds });
        rmSync(join(directory, toolchain.name), { recursive: true, force: true });
      }
    });
    return rows;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function named(name) {
  const toolchain = TOOLCHAINS.find((one) => one.name === name);
  if (!toolchain) throw new ScriptError(`Unknown: ${name}\n${usage}`);
  return toolchain;
}
