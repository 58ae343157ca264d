import { Test, type TestingModule } from '@nestjs/testing';
import { AtomicRedisModule, type AtomicRedisOptions } from 'nestjs-atomic-redis';

/** An application that has nothing but the module, and logs nothing. */
export async function startApp(
  connection: AtomicRedisOptions['connection'],
  options: Partial<AtomicRedisOptions> = {},
): Promise<TestingModule> {
  const app = await Test.createTestingModule({
    imports: [AtomicRedisModule.forRoot({ connection, namespace: 'atomic:', ...options })],
  }).compile();
  app.useLogger(false);
  return app.init();
}

/** Fields of a hash that all have the same value: a mixture of two is seen at once. */
export const fieldsOf = (value: string, count: number): [field: string, value: string][] =>
  Array.from({ length: count }, (_, i) => [`f${i}`, value]);
