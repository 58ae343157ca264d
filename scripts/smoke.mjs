import {
  closeSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { root, run, runAsMain, ScriptError, start } from './setup/process.mjs';
import { runNpm } from './setup/npm.mjs';
import { setup } from './setup.mjs';
import { build } from './build.mjs';
import { apps, tsconfig } from './smoke/apps.mjs';
import { withRedis } from './smoke/redis.mjs';
import { pack } from './smoke/tarball.mjs';

const exitWithinMs = 60_000;
const killed = 128 + constants.signals.SIGKILL;

const usage = `Usage: npm run smoke
  Installs the package, as npm would publish it, into empty apps, and runs each of them`;

/** Installs the package, as npm would publish it, into empty apps, and runs each of them. */
await runAsMain(import.meta.url, usage, async () => {
  const env = await setup({ needServer: true });
  await build();
  const directory = mkdtempSync(join(tmpdir(), 'smoke-'));
  try {
    const tarball = pack(directory);
    const tryAll = (url) =>
      Promise.all(
        apps.map((app, i) =>
          tryOut(app, {
            env: { ...env, REDIS_URL: url },
            tarball,
            directory: join(directory, `app-${i + 1}`),
          }),
        ),
      );
    const passed = await (env.REDIS_URL
      ? tryAll(env.REDIS_URL)
      : withRedis(env.REDIS_SERVER_BINARY, directory, tryAll));
    const failed = passed.filter((one) => !one).length;
    console.log(`\n${apps.length - failed} passed, ${failed} failed`);
    return failed === 0 ? 0 : 1;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

/** Several at once: what one prints is shown when it is done. */
async function tryOut(app, { env, tarball, directory }) {
  mkdirSync(directory);
  const log = join(directory, 'smoke.log');
  const output = openSync(log, 'w');
  const inApp = { cwd: directory, env, stdio: ['ignore', output, output] };
  let problem;
  try {
    await install(app, { tarball, directory, inApp });
    for (const [i] of app.compilers.entries())
      await run(
        process.execPath,
        [
          'node_modules/typescript/bin/tsc',
          '-p',
          tsconfigName(i),
          ...(i > 0 ? ['--noEmit', '--skipLibCheck'] : []),
        ],
        inApp,
      );
    await runBuilt(inApp);
  } catch (error) {
    if (!(error instanceof ScriptError) || (error.exitCode > 128 && error.exitCode !== killed)) throw error;
    problem = error.message;
  } finally {
    closeSync(output);
  }
  console.log(`\n${app.name}\n${readFileSync(log, 'utf8')}${problem ?? ''}`.trimEnd());
  return problem === undefined;
}

async function install({ type, platform, peers, compilers, dependencies }, { tarball, directory, inApp }) {
  const manifest = {
    private: true,
    type,
    dependencies: { ...dependencies, 'nestjs-atomic-redis': `file:../${basename(tarball)}` },
  };
  writeFileSync(join(directory, 'package.json'), JSON.stringify(manifest));
  for (const [i, compiler] of compilers.entries())
    writeFileSync(join(directory, tsconfigName(i)), JSON.stringify(tsconfig(compiler)));
  const source = join(root, 'scripts/smoke/app');
  const target = join(directory, 'src');
  for (const file of ['main.ts', 'shop.ts', 'wrong-types.ts']) cpSync(join(source, file), join(target, file));
  cpSync(join(source, 'adapters', `${platform}.ts`), join(target, 'adapter.ts'));
  cpSync(join(source, 'peers', `${peers}.ts`), join(target, 'peers.ts'));
  await runNpm(
    ['install', '--no-fund', '--no-audit', '--no-package-lock', '--prefer-offline', '--loglevel=error'],
    inApp,
  );
}

function tsconfigName(i) {
  return i === 0 ? 'tsconfig.json' : `tsconfig.${i + 1}.json`;
}

async function runBuilt(inApp) {
  const code = await start(process.execPath, ['dist/main.js'], {
    ...inApp,
    timeout: exitWithinMs,
    killSignal: 'SIGKILL',
  });
  if (code === killed)
    throw new ScriptError(`The app did not end by itself within ${exitWithinMs} ms.`, killed);
  if (code !== 0) throw new ScriptError(`The app failed with exit code ${code}.`);
}
