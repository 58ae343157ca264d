import { availableParallelism } from 'node:os';

/** Nest 12 is ESM-only; tests run it lowered to CommonJS by swc. The smoke test loads the built package as it ships. */
export default {
  rootDir: '.',
  testEnvironment: '<rootDir>/scripts/tests/environment.mjs',
  testMatch: ['<rootDir>/test/**/*.spec.ts'],
  transform: {
    '^.+\\.[jt]s$': [
      '@swc/jest',
      {
        jsc: {
          parser: { syntax: 'typescript', decorators: true },
          transform: { legacyDecorator: true, decoratorMetadata: true },
          keepClassNames: true,
          target: 'es2022',
        },
        module: { type: 'commonjs' },
        // Beside the code, not in it: V8 would read it with each file, for each spec.
        sourceMaps: true,
      },
    ],
  },
  // Besides Nest, its Mercurius driver, @fastify/cookie and light-my-request: packages of ESM only, and those that import one of them at run time.
  transformIgnorePatterns: [
    '/node_modules/(?!@nestjs/|mercurius/|quick-lru/|.*content-disposition/|@fastify/cookie/|light-my-request/|cookie/)',
  ],
  moduleNameMapper: {
    '^nestjs-atomic-redis$': '<rootDir>/lib/index.ts',
    '^nestjs-atomic-redis/(openapi|health|opentelemetry|throttler|testing)$': '<rootDir>/lib/$1/index.ts',
    '^(\\.{1,2}/.*)\\.js$': '$1',
  },
  setupFiles: ['<rootDir>/test/support/patient-claims.ts'],
  testSequencer: '<rootDir>/scripts/tests/sequencer.mjs',
  // Tests mostly wait for servers: on two cores, two at once take little more than half as long. A run
  // of everything has more workers: see scripts/tests/sequencer.mjs.
  maxWorkers: Math.max(2, availableParallelism() - 1),
  // These and the other deadlines of the tests only end what hangs: a busy machine may take ten times as long as an idle one.
  testTimeout: 90_000,
};
