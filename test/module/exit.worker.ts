import { Test } from '@nestjs/testing';
import {
  AtomicRedisModule,
  CounterService,
  IdempotencyService,
  TransactionService,
} from '../../lib/index.js';
import { worker } from '../support/worker.js';

/** Uses everything, leaves work hanging, and closes: nothing may keep the process alive after that. */
worker<{ url: string }>(async ({ data }) => {
  const app = await Test.createTestingModule({
    imports: [AtomicRedisModule.forRoot({ connection: data.url, shutdownTimeoutMs: 100 })],
  }).compile();
  app.useLogger(false);
  await app.init();
  await app.get(CounterService).add('n', 1);
  await app.get(TransactionService).run(['k'], (tx) => void tx.write.incr('k'));
  await app.get(IdempotencyService).run('done', () => 1);
  const never = new Promise<void>(() => undefined);
  app
    .get(TransactionService)
    .run(['k'], () => never)
    .catch(() => undefined);
  app
    .get(IdempotencyService)
    .run('hanging', () => never)
    .catch(() => undefined);
  await app.close();
  return 'closed';
});
