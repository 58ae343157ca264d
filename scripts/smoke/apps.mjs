import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../setup/process.mjs';

const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

const current = pick(
  '@nestjs/common',
  '@nestjs/core',
  '@types/node',
  'ioredis',
  'reflect-metadata',
  'rxjs',
  'typescript',
);

/** The consumers the package is tried in: what they install, and how their own code is loaded. */
export const apps = [
  { name: 'Nest 12, ES modules', type: 'module', dependencies: current },
  {
    name: 'Nest 11, CommonJS',
    type: 'commonjs',
    dependencies: {
      ...current,
      '@nestjs/common': '11.2.10',
      '@nestjs/core': '11.2.10',
      ioredis: '5.9.2',
      typescript: '5.9.3',
    },
  },
];

/** As Nest's own templates have it, but strict, and with the declarations of the package checked too. */
export const tsconfig = {
  compilerOptions: {
    module: 'nodenext',
    moduleResolution: 'nodenext',
    target: 'ES2023',
    types: ['node'],
    strict: true,
    skipLibCheck: false,
    isolatedModules: true,
    experimentalDecorators: true,
    emitDecoratorMetadata: true,
    noEmitOnError: true,
    rootDir: 'src',
    outDir: 'dist',
  },
  include: ['src'],
};

function pick(...names) {
  return Object.fromEntries(names.map((name) => [name, devDependencies[name]]));
}
