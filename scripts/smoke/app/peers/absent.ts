import assert from 'node:assert/strict';
import type { INestApplication } from '@nestjs/common';

export const ApiIdempotent = (): MethodDecorator => () => undefined;

export const optional = { imports: [], controllers: [], providers: [] };

export async function tryOptional(_app: INestApplication, _url: string): Promise<void> {
  const entries = {
    openapi: '@nestjs/swagger',
    health: '@nestjs/terminus',
    opentelemetry: '@opentelemetry/api',
  };
  for (const [entry, peer] of Object.entries(entries)) {
    await assert.rejects(import(`nestjs-atomic-redis/${entry}`), (error: Error) =>
      error.message.includes(`'${peer}'`),
    );
  }
  console.log(
    'Without @nestjs/swagger, @nestjs/terminus and @opentelemetry/api all else works, and their entry points name what is missing',
  );
}
