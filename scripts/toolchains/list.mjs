/**
 * Modules that Nest asks for only where an application has them: a bundler is not to look for them.
 */
const OPTIONAL = [
  '@nestjs/microservices',
  '@nestjs/websockets',
  '@nestjs/platform-socket.io',
  'class-transformer',
  'class-validator',
];

const external = OPTIONAL.flatMap((name) => [`--external:${name}`, `--external:${name}/*`]).join(' ');
/** An ES module bundled from CommonJS has no `require` of its own. */
const banner = `--banner:js="import { createRequire as r } from 'node:module'; const require = r(import.meta.url);"`;

/**
 * Each is a project as the CLI of that Nest version generates it. `packages` are installed besides,
 * `build` makes `main`; `test` runs the project's own tests, one of README's example, those of
 * docs/testing.md, and a generated one of a controller that has an idempotent route. `jest`: the
 * line that README tells to add is added. `ownSpecs`: specs of this repository run in it too.
 */
export const TOOLCHAINS = [
  {
    name: 'nest-11-jest',
    nest: 11,
    build: ['npm run build'],
    main: 'dist/main.js',
    test: 'npm test',
    jest: true,
    ownSpecs: true,
  },
  { name: 'nest-12-vitest', nest: 12, build: ['npm run build'], main: 'dist/main.js', test: 'npm test' },
  {
    name: 'swc',
    nest: 11,
    packages: ['@swc/cli@0.8.1', '@swc/core@1.16.18'],
    build: ['npx nest build --builder swc'],
    main: 'dist/main.js',
  },
  { name: 'webpack', nest: 11, build: ['npx nest build --builder webpack'], main: 'dist/main.js' },
  {
    name: 'rspack',
    nest: 12,
    packages: ['@rspack/core@2.3.4', 'webpack-node-externals@3.0.0', 'tsconfig-paths-webpack-plugin@4.2.0'],
    build: ['npx nest build --builder rspack'],
    main: 'dist/main.js',
  },
  {
    name: 'esbuild',
    nest: 12,
    packages: ['esbuild@0.28.2'],
    // Uses the compiler's output, because esbuild writes no decorator metadata.
    build: [
      'npm run build',
      `npx esbuild dist/main.js --bundle --minify --platform=node --format=esm ${external} ${banner} --outfile=alone/main.mjs`,
    ],
    main: 'dist/main.js',
    // The same keys, although every class has another name.
    bundle: 'alone/main.mjs',
  },
  {
    name: 'pnpm-jest',
    nest: 11,
    manager: 'npx --yes pnpm@10.34.8',
    build: ['npm run build'],
    main: 'dist/main.js',
    test: 'npm test',
    jest: true,
  },
];
