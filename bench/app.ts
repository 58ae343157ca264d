import { NestFactory } from '@nestjs/core';
import type { INestApplicationContext } from '@nestjs/common';
import { AtomicRedisModule, type AtomicRedisOptions } from 'nestjs-atomic-redis';

/** An application with the library as it is by default. */
export async function startApp(
  url: string,
  options: Partial<AtomicRedisOptions> = {},
): Promise<INestApplicationContext> {
  const root = AtomicRedisModule.forRoot({ connection: url, namespace: 'atomic:', ...options });
  return await NestFactory.createApplicationContext(root, { logger: false, abortOnError: false });
}
