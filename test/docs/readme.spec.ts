import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { INestApplication, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import ts from 'typescript';
import { useRedis } from '../support/redis.js';

const ROOT = path.join(__dirname, '../..');
/** Beside the tests, so that the example resolves its imports as a test does. */
const FOLDER = path.join(__dirname, 'extracted');
const FILE = path.join(FOLDER, 'readme-example.ts');

/** The first TypeScript block of the README, as it stands there. */
function example(): string {
  const block = /```ts\n([\s\S]*?)```/.exec(readFileSync(path.join(ROOT, 'README.md'), 'utf8'));
  if (!block) throw new Error('README.md has no TypeScript example');
  return block[1]!;
}

describe('the README’s example', () => {
  const redis = useRedis();

  beforeAll(() => {
    mkdirSync(FOLDER, { recursive: true });
    writeFileSync(FILE, example());
  });

  afterAll(() => rmSync(FOLDER, { recursive: true }));

  it('compiles', () => {
    const config = ts.getParsedCommandLineOfConfigFile(
      path.join(ROOT, 'tsconfig.json'),
      { noEmit: true },
      ts.sys as never,
    )!;
    const program = ts.createProgram([FILE], config.options);
    const messages = ts
      .getPreEmitDiagnostics(program, program.getSourceFile(FILE))
      .map(({ messageText }) => messageText);
    expect(messages).toEqual([]);
  }, 60_000);

  it('deposits once for each idempotency key, and loses no deposit', async () => {
    process.env.REDIS_URL = redis.server.url;
    // oxlint-disable-next-line typescript/no-require-imports -- the file was made a moment ago
    const { AppModule } = require(FILE) as { AppModule: Type };
    delete process.env.REDIS_URL;
    const app: INestApplication = await NestFactory.create(AppModule, { logger: false });
    await app.listen(0, '127.0.0.1');
    const deposit = async (key: string): Promise<unknown> => {
      const response = await fetch(`${await app.getUrl()}/accounts/42/deposits`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': key },
        body: JSON.stringify({ amount: 5 }),
      });
      return await response.json();
    };
    expect(await deposit('a')).toEqual({ id: '42', balance: 5 });
    expect(await deposit('a')).toEqual({ id: '42', balance: 5 });
    await Promise.all(Array.from({ length: 20 }, (_, i) => deposit(`b${i}`)));
    expect(await redis.client.get('account:{42}')).toBe('105');
    await app.close();
  });
});
