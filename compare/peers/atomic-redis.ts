import type { Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { AtomicRedisError, AtomicRedisModule } from 'nestjs-atomic-redis';

/** An application with the library as it is by default, and one provider. */
export async function startApp<T>(
  url: string,
  provider: Type<T>,
  others: { provide: symbol; useValue: unknown }[] = [],
): Promise<{ readonly provider: T; readonly close: () => Promise<void> }> {
  const app = await NestFactory.createApplicationContext(
    {
      module: class App {},
      imports: [AtomicRedisModule.forRoot({ connection: url, namespace: 'compare:' })],
      providers: [provider, ...others],
    },
    { logger: false, abortOnError: false },
  );
  return { provider: app.get(provider), close: () => app.close() };
}

const HELD: readonly string[] = ['IDEMPOTENCY_OUTCOME_UNKNOWN', 'STEP_INTERRUPTED'];

export const isHeld = (error: unknown): boolean =>
  error instanceof AtomicRedisError && HELD.includes(error.code);

export const notApplied = (error: unknown): boolean =>
  error instanceof AtomicRedisError && error.outcome === 'not-applied';
