import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { root } from '../setup/process.mjs';

/**
 * Specs of this repository that a project with another version of Nest runs too, against the
 * package as it ships.
 */
const SPECS = [
  'idempotency/http.spec.ts',
  'idempotency/http-outcome.spec.ts',
  'idempotency/http-wire.spec.ts',
  'idempotency/rabbitmq.spec.ts',
  'idempotency/golevelup.nest-11.ts',
  'idempotency/kafka.spec.ts',
  'idempotency/grpc.spec.ts',
];

/**
 * All but what Express writes to the wire, which is the same in each version of Nest; and Nest 11
 * pins Fastify 5.11, which rejects unheard, and so ends a process, where a handler fails behind a
 * part of its own response: with or without this package.
 */
const TITLES = '^(?!.*(?:on fastify.*sends a part|wire of an idempotent response on express)).*$';

/** Versions of the specs' dependencies besides Nest, as in this repository. */
const PACKAGES = ['@grpc/grpc-js', '@grpc/proto-loader', 'class-transformer', 'class-validator', 'kafkajs'];

/**
 * The packages to install for them; those of RabbitMQ are of the versions that golevelup's module
 * depends on.
 */
export function packagesOfSpecs(nest) {
  const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  return [
    ...['microservices', 'platform-fastify'].map((name) => `@nestjs/${name}@${nest}`),
    ...PACKAGES.map((name) => `${name}@${devDependencies[name]}`),
    '@golevelup/nestjs-rabbitmq@9.0.2',
    'amqp-connection-manager@5.0.0',
    'amqplib@0.10.9',
  ];
}

/** Copies the specs into the project; returns the command that runs them. */
export function addOwnSpecs(directory) {
  const folder = join(directory, 'own-specs');
  mkdirSync(folder);
  for (const part of ['idempotency', 'support', 'fixtures'])
    cpSync(join(root, 'test', part), join(folder, part), { recursive: true });
  writeFileSync(join(folder, 'jest.config.json'), JSON.stringify(configOf(directory), null, 2));
  return `npx jest --config own-specs/jest.config.json -t '${TITLES}'`;
}

/** Compiled by swc, as here: `npm run typecheck` checks their types. */
function configOf(directory) {
  const swc = createRequire(join(root, 'package.json')).resolve('@swc/jest');
  const shipped = join(directory, 'node_modules/nestjs-atomic-redis/dist/lib');
  return {
    rootDir: '.',
    testEnvironment: 'node',
    testMatch: SPECS.map((name) => `<rootDir>/${name}`),
    transform: {
      '^.+\\.[jt]s$': [
        swc,
        {
          jsc: {
            parser: { syntax: 'typescript', decorators: true },
            transform: { legacyDecorator: true, decoratorMetadata: true },
            keepClassNames: true,
            target: 'es2022',
          },
          module: { type: 'commonjs' },
        },
      ],
    },
    transformIgnorePatterns: ['/node_modules/(?!nestjs-atomic-redis/)'],
    moduleNameMapper: {
      '^(?:\\.\\./)+lib/(.*)\\.js$': `${shipped}/$1.js`,
      '^(\\.{1,2}/.*)\\.js$': '$1',
    },
    maxWorkers: 2,
    testTimeout: 90_000,
  };
}
