import type { Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { worker } from '../support/worker.js';

export interface ExampleData {
  /** The example that `useExample` extracted. */
  file: string;
  env: Readonly<Record<string, string>>;
}

/**
 * Runs the example of a page in a process of its own, and sends its URL. Serves until it is killed.
 */
worker<ExampleData>(async ({ data: { file, env }, send }) => {
  Object.assign(process.env, env);
  // oxlint-disable-next-line typescript/no-require-imports -- as a test loads it
  const { AppModule } = require(file) as { AppModule: Type };
  const app = await NestFactory.create(AppModule, { logger: false });
  await app.listen(0, '127.0.0.1');
  send(await app.getUrl());
  await new Promise(() => undefined);
});
