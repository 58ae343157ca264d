import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { build } from './build.mjs';
import { root, runAsMain, ScriptError } from './setup/process.mjs';
import { runNpm } from './setup/npm.mjs';
import { setup } from './setup.mjs';
import { pack } from './smoke/tarball.mjs';
import { declarationsOf } from './types/declarations.mjs';

/** The oldest and the newest of each line of TypeScript that is supported. */
const VERSIONS = ['5.4.5', '5.9.3', '6.0.3', '7.0.2'];

/** Module resolution of a project, and the `type` of its package. */
const KINDS = [
  { name: 'nodenext, ES modules', type: 'module', module: 'nodenext' },
  { name: 'node16, ES modules', type: 'module', module: 'node16' },
  { name: 'bundler', type: 'module', module: 'esnext', moduleResolution: 'bundler' },
  // require() of an ES module is an error to TypeScript before 5.8.
  { name: 'nodenext, CommonJS', type: 'commonjs', module: 'nodenext', from: 5.8 },
  { name: 'commonjs, bundler', type: 'commonjs', module: 'commonjs', moduleResolution: 'bundler', from: 6 },
  // TypeScript 7 has no node10.
  { name: 'commonjs, node10', type: 'commonjs', module: 'commonjs', moduleResolution: 'node10', until: 6 },
];

const SHORT = [
  ['5.4.5', 'node16, ES modules'],
  ['6.0.3', 'nodenext, ES modules'],
  ['7.0.2', 'bundler'],
];

const usage = `Usage: npm run test:types -- [--short]
  Compiles a program against the packed package with every supported TypeScript and module resolution, with skipLibCheck: false and
  exactOptionalPropertyTypes: true, and has TypeScript write its declarations. Errors in the package's own declarations count, and
  those in the program.
  --short     ${SHORT.length} of them`;

await runAsMain(import.meta.url, usage, async () => {
  const [option, ...more] = process.argv.slice(2);
  if (more.length > 0 || (option !== undefined && option !== '--short')) throw new ScriptError(usage);
  await setup({});
  await build();
  /** @type {{ version: string, kind: typeof KINDS[number] }[]} */
  const cells = option ? short() : all();
  const directory = mkdtempSync(join(tmpdir(), 'types-'));
  let failed = 0;
  try {
    const tarball = pack(directory);
    const app = join(directory, 'app');
    await install(app, tarball, [...new Set(cells.map(({ version }) => version))]);
    for (const { version, kind } of cells) {
      const errors = compile(app, version, kind);
      console.log(`${errors.length === 0 ? 'ok    ' : 'FAILED'} TypeScript ${version}, ${kind.name}`);
      for (const error of errors.slice(0, 20)) console.log(`       ${error}`);
      if (errors.length > 0) failed++;
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  console.log(`\n${cells.length - failed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
});

function short() {
  return SHORT.map(([version, name]) => ({ version, kind: KINDS.find((kind) => kind.name === name) }));
}

function all() {
  return VERSIONS.flatMap((version) => {
    const number = Number(version.split('.').slice(0, 2).join('.'));
    const kinds = KINDS.filter(
      ({ from = 0, until = Infinity }) => number >= from && Math.floor(number) <= until,
    );
    return kinds.map((kind) => ({ version, kind }));
  });
}

async function install(app, tarball, versions) {
  mkdirSync(join(app, 'src'), { recursive: true });
  const { devDependencies, exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const wanted = [
    ...[
      '@nestjs/common',
      '@nestjs/core',
      '@nestjs/swagger',
      '@nestjs/terminus',
      '@nestjs/testing',
      '@nestjs/throttler',
      '@opentelemetry/api',
    ],
    ...['@types/node', 'ioredis', 'reflect-metadata', 'rxjs'],
  ];
  const dependencies = Object.fromEntries([
    ...wanted.map((name) => [name, devDependencies[name]]),
    ...versions.map((version) => [nameOf(version), `npm:typescript@${version}`]),
    ['nestjs-atomic-redis', `file:../${basename(tarball)}`],
  ]);
  writeFileSync(join(app, 'package.json'), JSON.stringify({ private: true, dependencies }));
  cpSync(join(root, 'test/types/callbacks.ts'), join(app, 'src/callbacks.ts'));
  cpSync(join(root, 'scripts/types/program.ts'), join(app, 'src/program.ts'));
  writeFileSync(join(app, 'src/declarations.ts'), declarationsOf(exports));
  await runNpm(
    ['install', '--no-fund', '--no-audit', '--no-package-lock', '--prefer-offline', '--loglevel=error'],
    { cwd: app },
  );
}

/**
 * @returns errors of the program, and of the package's declarations; those in other packages are
 * not its own
 */
function compile(app, version, { type, module, moduleResolution }) {
  const manifest = JSON.parse(readFileSync(join(app, 'package.json'), 'utf8'));
  writeFileSync(join(app, 'package.json'), JSON.stringify({ ...manifest, type }));
  const compilerOptions = {
    module,
    ...(moduleResolution && { moduleResolution }),
    ...(moduleResolution === 'node10' && version.startsWith('6.') && { ignoreDeprecations: '6.0' }),
    ...(type === 'commonjs' && { esModuleInterop: true }),
    target: 'ES2022',
    types: ['node'],
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: false,
    experimentalDecorators: true,
    emitDecoratorMetadata: true,
    // The declarations of a user's code must be able to name each type that it infers.
    declaration: true,
    emitDeclarationOnly: true,
    outDir: 'declarations',
    rootDir: 'src',
  };
  writeFileSync(join(app, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['src'] }));
  const tsc = join(app, 'node_modules', nameOf(version), 'bin', 'tsc');
  const { stdout, status, error } = spawnSync(process.execPath, [tsc, '-p', '.', '--pretty', 'false'], {
    cwd: app,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  if (error) return [String(error)];
  const lines = stdout.split('\n').filter((line) => /error TS\d+/.test(line));
  const ours = lines.filter(
    (line) => !line.includes('node_modules/') || line.includes('node_modules/nestjs-atomic-redis/'),
  );
  return status !== 0 && lines.length === 0 ? [`tsc ended with ${status}: ${stdout}`] : ours;
}

function nameOf(version) {
  return `typescript-${version}`;
}
