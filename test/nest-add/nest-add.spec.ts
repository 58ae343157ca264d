import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { build, BUILD_TIMEOUT_MS } from '../support/build.js';

const run = promisify(execFile);

describe('nest add nestjs-atomic-redis', () => {
  let project: string;

  beforeAll(build, BUILD_TIMEOUT_MS);

  beforeEach(() => {
    project = mkdtempSync(join(tmpdir(), 'nest-add-'));
    mkdirSync(join(project, 'src'));
    mkdirSync(join(project, 'node_modules'));
    symlinkSync(resolve('.'), join(project, 'node_modules/nestjs-atomic-redis'));
    symlinkSync(resolve('node_modules/@nestjs'), join(project, 'node_modules/@nestjs'));
    write('nest-cli.json', '{ "sourceRoot": "src" }');
    write('package.json', '{ "name": "@acme/web shop" }');
    write('src/main.ts', 'const app = await NestFactory.create(AppModule);\nawait app.listen(3000);\n');
    write('src/app.module.ts', '@Module({\n  imports: [],\n})\nexport class AppModule {}\n');
  });

  afterEach(() => rmSync(project, { recursive: true, force: true }));

  const write = (file: string, text: string): void => writeFileSync(join(project, file), text);
  const read = (file: string): string => readFileSync(join(project, file), 'utf8');
  const nestAdd = async (): Promise<string> => {
    const cli = resolve('node_modules/@nestjs/cli/bin/nest.js');
    const { stdout, stderr } = await run(
      process.execPath,
      [cli, 'add', 'nestjs-atomic-redis', '--skip-install'],
      { cwd: project },
    );
    return stdout + stderr;
  };

  it('[MOD-12] imports the module, names the server in .env, enables shutdown hooks, and does so once', async () => {
    await nestAdd();
    expect(read('src/app.module.ts')).toContain("namespace: 'webshop:'");
    expect(read('src/main.ts')).toContain('app.enableShutdownHooks();\nawait app.listen(3000);');
    expect(read('.env')).toBe('REDIS_URL=redis://localhost:6379\n');

    const files = ['src/app.module.ts', 'src/main.ts', '.env'];
    const before = files.map(read);
    await nestAdd();
    expect(files.map(read)).toEqual(before);
  });

  it('[MOD-12] prints the manual steps for a file that it does not understand', async () => {
    write('src/app.module.ts', 'export const modules = [];\n');
    expect(await nestAdd()).toMatch(
      /src\/app\.module\.ts was not changed\. Add this to the imports of a module:\s+AtomicRedisModule\.forRoot/,
    );
    expect(read('src/app.module.ts')).toBe('export const modules = [];\n');
  });
});
