import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { transformSync } from '@swc/core';
import { build, type Plugin } from 'esbuild';
import { useRedis } from '../support/redis.js';

const ROOT = path.join(__dirname, '../..');

/** Runs the shop and two services of one method name, and prints what became of a call of each. */
const entry = (first: string, second: string): string => `
import 'reflect-metadata';
import { Injectable } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Idempotent } from 'nestjs-atomic-redis';
import { AppModule } from './sample-app/app.module.js';
import { OrdersController } from './sample-app/orders/orders.controller.js';
const ran = [];
${first}
${second}
const root = AppModule.withRedis(process.env.REDIS_URL!);
const app = await NestFactory.create({ ...root, providers: [Shipping, Billing] }, { logger: ['error'] });
await app.listen(0, '127.0.0.1');
const response = await fetch((await app.getUrl()) + '/orders', {
  method: 'POST',
  headers: { 'idempotency-key': 'the-same', 'content-type': 'application/json' },
  body: JSON.stringify({ sku: 'tea', quantity: 1 }),
});
const order = await response.text();
const shipped = await app.get(Shipping).run('order-7');
const billed = await app.get(Billing).run('order-7');
console.log(JSON.stringify({
  classes: [OrdersController.name, Shipping.name, Billing.name],
  status: response.status, replayed: response.headers.get('idempotency-replayed'), order, shipped, billed, ran,
}));
await app.close();
`;

const service = (name: string, operation: string): string => `
@Injectable() class ${name} {
  @Idempotent({ operation: '${operation}', key: (id: string) => id })
  async run(id: string) { ran.push('${operation}'); return '${operation} ' + id; }
}`;

const SHIPPING = service('Shipping', 'orders.ship');
const BILLING = service('Billing', 'orders.bill');

/**
 * Changes that have nothing to do with any route: many names that are used often, so that a
 * minifier gives other names to all.
 */
const UNRELATED = Array.from({ length: 60 }, (_, i) => {
  const name = `Unrelated${i}`;
  return `class ${name} {}\n(globalThis as any).unrelated = [${`${name}, `.repeat(20)}];\n`;
}).join('');

interface Seen {
  readonly classes: string[];
  readonly status: number;
  readonly replayed: string | null;
  readonly order: string;
  readonly shipped: string;
  readonly billed: string;
  readonly ran: string[];
}

const compiled = (source: string, filename: string): string =>
  transformSync(source, {
    filename,
    jsc: {
      parser: { syntax: 'typescript', decorators: true },
      transform: { legacyDecorator: true, decoratorMetadata: true },
      target: 'es2022',
    },
    module: { type: 'es6' },
  }).code;

async function bundle(file: string, main: string, added: string): Promise<void> {
  const typescript: Plugin = {
    name: 'typescript',
    setup({ onLoad }) {
      onLoad({ filter: /\.ts$/, namespace: 'file' }, ({ path: at }) => {
        const isController = at.endsWith('.controller.ts');
        const source = readFileSync(at, 'utf8') + (isController ? added : '');
        return { contents: compiled(source, at), loader: 'ts' };
      });
    },
  };
  await build({
    stdin: { contents: compiled(main, 'main.ts'), resolveDir: ROOT, sourcefile: 'main.ts', loader: 'ts' },
    outfile: file,
    bundle: true,
    minify: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    packages: 'external',
    alias: {
      'nestjs-atomic-redis': path.join(ROOT, 'lib/index.ts'),
      'nestjs-atomic-redis/openapi': path.join(ROOT, 'lib/openapi/index.ts'),
      'nestjs-atomic-redis/health': path.join(ROOT, 'lib/health/index.ts'),
      'nestjs-atomic-redis/throttler': path.join(ROOT, 'lib/throttler/index.ts'),
      'nestjs-atomic-redis/testing': path.join(ROOT, 'lib/testing/index.ts'),
    },
    plugins: [typescript],
  });
}

describe('an application that is bundled and minified', () => {
  const redis = useRedis();
  let directory: string;

  // Inside the checkout, where the bundle finds the packages that it leaves out.
  beforeAll(() => {
    mkdirSync(path.join(ROOT, 'dist'), { recursive: true });
    directory = mkdtempSync(path.join(ROOT, 'dist/minified-'));
  });

  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  const run = async (name: string, main: string, added: string): Promise<Seen> => {
    const file = path.join(directory, `${name}.mjs`);
    await bundle(file, main, added);
    const env = { ...process.env, REDIS_URL: redis.server.url };
    const { stdout } = await promisify(execFile)(process.execPath, [file], { env });
    return JSON.parse(stdout.trim().split('\n').at(-1)!) as Seen;
  };

  it('[ID-21] keeps its keys over a deploy that changed something else', async () => {
    const before = await run('before', entry(SHIPPING, BILLING), '');
    const after = await run('after', entry(BILLING, SHIPPING), UNRELATED);
    expect(before).toMatchObject({ status: 201, replayed: null, ran: ['orders.ship', 'orders.bill'] });
    expect(after).toMatchObject({ status: 201, replayed: 'true', ran: [] });
    expect(after.order).toBe(before.order);
    expect([after.shipped, after.billed]).toEqual([before.shipped, before.billed]);
    // Else nothing was minified, or a class kept its name.
    expect(before.classes).not.toContain('OrdersController');
    for (const [i, name] of after.classes.entries()) expect(name).not.toBe(before.classes[i]);
  });
});
