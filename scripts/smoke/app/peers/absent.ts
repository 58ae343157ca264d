import assert from 'node:assert/strict';
import type { INestApplication } from '@nestjs/common';

export const ApiIdempotent = (): MethodDecorator => () => undefined;

export const optional = { imports: [], controllers: [], providers: [] };

export async function tryOptional(_app: INestApplication, _url: string): Promise<void> {
  for (const [entry, peer] of [
    ['nestjs-atomic-redis/openapi', '@nestjs/swagger'],
    ['nestjs-atomic-redis/health', '@nestjs/terminus'],
  ]) {
    await assert.rejects(import(entry!), (error: Error) => error.message.includes(`'${peer}'`));
  }
  console.log(
    'Without @nestjs/swagger and @nestjs/terminus all else works, and their entry points name what is missing',
  );
}
