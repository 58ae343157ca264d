import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, run, runAsMain, ScriptError, start } from './setup/process.mjs';
import { runNpm } from './setup/npm.mjs';
import { setup } from './setup.mjs';
import { build } from './build.mjs';
import { apps, tsconfig } from './smoke/apps.mjs';
import { withRedis } from './smoke/redis.mjs';

const exitWithinMs = 60_000;
const killed = 128 + constants.signals.SIGKILL;

/** Installs the package, as npm would publish it, into empty apps, and runs one method of each decorator there. */
await runAsMain(import.meta.url, async () => {
  const env = await setup({ needServer: true });
  await build();
  const directory = mkdtempSync(join(tmpdir(), 'smoke-'));
  try {
    await runNpm(['pack', '--silent', '--pack-destination', directory]);
    const tarball = readdirSync(directory).find((file) => file.endsWith('.tgz'));
    let failed = 0;
    for (const [index, app] of apps.entries()) {
      console.log(`\n${app.name}`);
      try {
        await tryOut(app, { env, tarball, directory: join(directory, `app-${index + 1}`) });
      } catch (error) {
        if (!(error instanceof ScriptError) || error.exitCode > 128) throw error;
        failed += 1;
        console.error(error.message);
      }
    }
    console.log(`\n${apps.length - failed} passed, ${failed} failed`);
    return failed === 0 ? 0 : 1;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

async function tryOut({ type, dependencies }, { env, tarball, directory }) {
  mkdirSync(directory);
  const manifest = {
    private: true,
    type,
    dependencies: { ...dependencies, 'nestjs-atomic-redis': `file:../${tarball}` },
  };
  writeFileSync(join(directory, 'package.json'), JSON.stringify(manifest));
  writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify(tsconfig));
  cpSync(join(root, 'scripts/smoke/app'), join(directory, 'src'), { recursive: true });
  await runNpm(['install', '--no-fund', '--no-audit', '--no-package-lock', '--loglevel=error'], {
    cwd: directory,
  });
  await run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', '.'], { cwd: directory });

  const runApp = async (url) => {
    const code = await start(process.execPath, ['dist/main.js'], {
      cwd: directory,
      env: { ...env, REDIS_URL: url },
      timeout: exitWithinMs,
      killSignal: 'SIGKILL',
    });
    if (code === killed) throw new ScriptError(`The app did not end by itself within ${exitWithinMs} ms.`);
    if (code !== 0) throw new ScriptError(`The app failed with exit code ${code}.`, code);
  };
  await (env.REDIS_URL ? runApp(env.REDIS_URL) : withRedis(env.REDIS_SERVER_BINARY, directory, runApp));
}
