import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { root, ScriptError } from '../setup/process.mjs';
import { freePort } from '../smoke/redis.mjs';
import { exampleOf, jestFilesOf } from '../stranger/quick-start.mjs';
import { addOwnSpecs, packagesOfSpecs } from './own-specs.mjs';

const START_MS = 60_000;
const CLI = {
  11: 'npx --yes @nestjs/cli@11.0.24',
  12: `node ${join(root, 'node_modules/@nestjs/cli/bin/nest.js')}`,
};

/**
 * From an empty folder to a request that is answered once; throws what goes wrong, with what was
 * printed.
 */
export async function walk(toolchain, { directory, tarball, env }) {
  mkdirSync(dirname(directory), { recursive: true });
  const quiet = {
    ...env,
    npm_config_audit: 'false',
    npm_config_fund: 'false',
    npm_config_prefer_offline: 'true',
    CI: '1',
  };
  const folder = basename(directory);
  await shell(
    `${CLI[toolchain.nest]} new ${folder} --skip-git --skip-install --package-manager npm`,
    dirname(directory),
    quiet,
  );
  const inProject = (command) => shell(command, directory, quiet);
  addExample(toolchain, directory);
  const ofSpecs = toolchain.ownSpecs ? packagesOfSpecs(toolchain.nest) : [];
  const packages = [tarball, 'ioredis', ...(toolchain.packages ?? []), ...ofSpecs].join(' ');
  await inProject(toolchain.manager ? `${toolchain.manager} add ${packages}` : `npm install ${packages}`);
  if (toolchain.test) {
    await inProject('npx nest generate controller orders --skip-import');
    decorateGenerated(directory);
  }
  for (const command of toolchain.build) await inProject(command);

  const key = `${toolchain.name}-1`;
  const first = await answersOf(join(directory, toolchain.main), directory, quiet, key, 2);
  expectOnce(first);
  if (toolchain.bundle) {
    // Away from the project, so that nothing is loaded from its node_modules.
    const alone = join(dirname(directory), `${folder}-alone`);
    cpSync(dirname(join(directory, toolchain.bundle)), alone, { recursive: true });
    const [again] = await answersOf(join(alone, basename(toolchain.bundle)), alone, quiet, key, 1);
    if (again.replayed !== 'true' || again.body !== first[0].body)
      throw new ScriptError(`The bundle answers a key of the build before with ${JSON.stringify(again)}.`);
  }
  if (toolchain.test) await inProject(toolchain.test);
  if (toolchain.ownSpecs) await inProject(addOwnSpecs(directory));
}

/**
 * README's example in place of the stock module, a test of it, and the unit test of
 * docs/testing.md, which reads the same in Vitest.
 */
function addExample({ nest, jest, test }, directory) {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  writeFileSync(join(directory, 'src/app.module.ts'), exampleOf(readme));
  const extension = nest === 12 ? '.js' : '';
  writeFileSync(join(directory, 'src/accounts.spec.ts'), specOf(extension));
  if (test) {
    const unitTest = exampleOf(readFileSync(join(root, 'docs/testing.md'), 'utf8'));
    writeFileSync(
      join(directory, 'src/unit.spec.ts'),
      jest ? unitTest : unitTest.replaceAll('jest.spyOn', 'vi.spyOn'),
    );
  }
  if (!jest) return;
  const file = join(directory, 'package.json');
  const manifest = JSON.parse(readFileSync(file, 'utf8'));
  const { config, tsconfig } = jestFilesOf(readme);
  Object.assign(manifest.jest, config);
  writeFileSync(file, JSON.stringify(manifest, null, 2));
  writeFileSync(join(directory, 'tsconfig.spec.json'), tsconfig);
}

/**
 * An idempotent route in the controller that the CLI has generated, and in its spec the two lines
 * that docs/testing.md tells to add.
 */
function decorateGenerated(directory) {
  const edit = (file, edits) => {
    const path = join(directory, 'src/orders', file);
    let text = readFileSync(path, 'utf8');
    for (const [from, to] of edits) {
      if (!text.includes(from)) throw new ScriptError(`The CLI generates ${file} in another form:\n${text}`);
      text = text.replace(from, to);
    }
    writeFileSync(path, text);
  };
  edit('orders.controller.ts', [
    [
      'import { Controller }',
      "import { Idempotent } from 'nestjs-atomic-redis';\nimport { Controller, Post }",
    ],
    [
      'export class OrdersController {',
      'export class OrdersController {\n  @Post()\n  @Idempotent()\n  create() {\n    return 1;\n  }\n',
    ],
  ]);
  edit('orders.controller.spec.ts', [
    ['import ', "import { AtomicRedisTestingModule } from 'nestjs-atomic-redis/testing';\nimport "],
    ['controllers: [', 'imports: [AtomicRedisTestingModule],\n      controllers: ['],
  ]);
}

const specOf = (extension) => `import { Test, TestingModule } from '@nestjs/testing';
import { startRedisServer } from 'nestjs-atomic-redis/testing';
import { Accounts, AppModule } from './app.module${extension}';

describe('Accounts', () => {
  let app: TestingModule;

  beforeAll(async () => {
    app = await Test.createTestingModule({ imports: [AppModule] }).compile();
    await app.init();
  });

  afterAll(async () => {
    await app.close();
  });

  it('deposits', async () => {
    const id = 'tested-' + Math.random();
    expect(await app.get(Accounts).deposit(id, 5)).toEqual({ id, balance: 5 });
    expect(typeof startRedisServer).toBe('function');
  });
});
`;

function expectOnce([first, second]) {
  const right =
    first.status === 201 && second.status === 201 && second.replayed === 'true' && !first.replayed;
  if (!right || first.body !== second.body)
    throw new ScriptError(`Two requests with one key were answered with ${JSON.stringify([first, second])}.`);
}

/** Starts the application and sends the same request so many times, one after the other. */
async function answersOf(main, cwd, env, key, times) {
  if (!existsSync(main)) throw new ScriptError(`The build made no ${main}.`);
  const port = await freePort();
  const child = spawn(process.execPath, [main], { cwd, env: { ...env, PORT: String(port) } });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => (output += text));
  const closed = once(child, 'close');
  try {
    const url = `http://127.0.0.1:${port}/accounts/42/deposits`;
    for (
      const deadline = Date.now() + START_MS;
      !(await fetch(url).catch(() => undefined));
      await sleep(100)
    ) {
      if (child.exitCode !== null || Date.now() > deadline)
        throw new ScriptError(`${main} does not serve:\n${output}`);
    }
    const answers = [];
    for (let i = 0; i < times; i++) {
      const response = await fetch(url, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', 'Idempotency-Key': key },
        body: '{"amount":5}',
      });
      const replayed = response.headers.get('idempotency-replayed');
      answers.push({ status: response.status, replayed, body: await response.text() });
    }
    return answers;
  } finally {
    child.kill('SIGTERM');
    await closed;
  }
}

async function shell(command, cwd, env) {
  const child = spawn(command, { cwd, env, shell: true, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => (output += text));
  const [code] = await once(child, 'close');
  if (code !== 0) throw new ScriptError(`$ ${command}\n${output}\nExit code: ${code}`);
}
