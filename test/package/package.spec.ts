import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import ts from 'typescript';
import { build, BUILD_TIMEOUT_MS } from '../support/build.js';

const ROOT = path.join(__dirname, '../..');

interface Manifest {
  exports: Record<string, { default: string }>;
  dependencies: Record<string, string>;
  peerDependencies: Record<string, string>;
  peerDependenciesMeta: Record<string, { optional: boolean }>;
}

const manifest = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as Manifest;

/** Packages that a source file and what it imports need, for their types too. */
function packagesOf(entry: string): Set<string> {
  const packages = new Set<string>();
  const seen = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    const { importedFiles } = ts.preProcessFile(readFileSync(file, 'utf8'));
    for (const { fileName } of importedFiles) {
      if (fileName.startsWith('.')) visit(path.resolve(path.dirname(file), fileName.replace(/\.js$/, '.ts')));
      else if (!fileName.startsWith('node:') && !builtinModules.includes(fileName))
        packages.add(fileName.split('/', fileName.startsWith('@') ? 2 : 1).join('/'));
    }
  };
  visit(entry);
  return packages;
}

describe('the package', () => {
  it(
    '[PKG-1] holds its entry points, their types, and the documentation, and nothing else',
    async () => {
      const directory = mkdtempSync(path.join(tmpdir(), 'pack-'));
      try {
        await build();
        const script = `import { pack } from './scripts/smoke/tarball.mjs'; pack(process.argv[1])`;
        const args = ['--input-type=module', '-e', script, directory];
        const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: ROOT });
        expect(stdout).toMatch(/^nestjs-atomic-redis-.*\.tgz: \d+ files/);
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    },
    BUILD_TIMEOUT_MS,
  );

  const { dependencies, peerDependencies, peerDependenciesMeta, exports } = manifest;
  const needed = Object.keys({ ...dependencies, ...peerDependencies }).filter(
    (name) => !peerDependenciesMeta[name]?.optional,
  );
  const entries = Object.entries(exports)
    .filter(([name]) => name !== './package.json')
    .map(([name, { default: file }]): [string, string] => [
      name,
      path.join(ROOT, file.replace('dist/', '').replace(/\.js$/, '.ts')),
    ]);

  it('[PKG-2] has optional peers only where an entry point of their own needs them', () => {
    const optional = Object.fromEntries(
      entries.map(([name, file]) => [name, [...packagesOf(file)].filter((one) => !needed.includes(one))]),
    );
    expect(optional).toEqual({
      '.': [],
      './openapi': ['@nestjs/swagger'],
      './health': ['@nestjs/terminus'],
      './opentelemetry': ['@opentelemetry/api'],
      './throttler': ['@nestjs/throttler'],
      './testing': [],
    });
  });
});
