import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../setup/process.mjs';

const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

const nest12 = pick('@nestjs/common', '@nestjs/core');
const nest11 = { '@nestjs/common': '11.2.10', '@nestjs/core': '11.2.10' };
const others = pick('@types/node', 'reflect-metadata', 'rxjs');

/**
 * The consumers the package is tried in: what they install, how their own code is loaded and
 * compiled, over which HTTP platform they are called, and whether they have the peers that are
 * optional. Every value of each of these is in one of them at least; with the first of several
 * compilers it is run, with the others only checked.
 */
export const apps = [
  {
    name: 'Nest 12, ES modules, Express, ioredis 6, with @nestjs/swagger, @nestjs/terminus and @opentelemetry/api',
    type: 'module',
    platform: 'express',
    peers: 'present',
    compilers: [
      { module: 'nodenext' },
      { module: 'node16' },
      { module: 'esnext', moduleResolution: 'bundler' },
    ],
    dependencies: {
      ...nest12,
      ...others,
      ...pick(
        'typescript',
        'ioredis',
        '@nestjs/platform-express',
        '@nestjs/swagger',
        '@nestjs/terminus',
        '@opentelemetry/api',
      ),
    },
  },
  {
    name: 'Nest 12, CommonJS, Fastify, the oldest ioredis, without optional peers',
    type: 'commonjs',
    platform: 'fastify',
    peers: 'absent',
    compilers: [{ module: 'nodenext' }],
    dependencies: {
      ...nest12,
      ...others,
      ...pick('typescript', '@nestjs/platform-fastify'),
      ioredis: '5.4.1',
    },
  },
  {
    name: 'Nest 11, CommonJS by TypeScript 5 as of old, Express, ioredis 5, with @nestjs/swagger 11 and @nestjs/terminus 11',
    type: 'commonjs',
    platform: 'express',
    peers: 'present',
    compilers: [{ module: 'commonjs', moduleResolution: 'node10', esModuleInterop: true }],
    dependencies: {
      ...nest11,
      ...others,
      '@nestjs/platform-express': '11.2.10',
      '@nestjs/swagger': '11.4.0',
      '@nestjs/terminus': '11.1.1',
      ...pick('@opentelemetry/api'),
      ioredis: '5.9.2',
      typescript: '5.9.3',
    },
  },
];

/**
 * As Nest's own templates have it, but strict, and with the declarations of the package checked
 * too.
 */
export const tsconfig = (compiler) => ({
  compilerOptions: {
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
    ...compiler,
  },
  include: ['src'],
});

function pick(...names) {
  return Object.fromEntries(names.map((name) => [name, devDependencies[name]]));
}
