import {
  CounterService,
  IdempotencyService,
  ListService,
  ReliableQueueService,
  ShadowKeyService,
  TransactionService,
} from '../../lib/index.js';
import { startApp } from '../support/app.js';
import { worker } from '../support/worker.js';

/**
 * Uses everything, leaves work hanging, and closes: nothing may keep the process alive after that.
 */
worker<{ url: string }>(async ({ data }) => {
  const app = await startApp({ connection: data.url, shutdownTimeoutMs: 100 });
  await app.get(CounterService).add('n', 1);
  await app.get(TransactionService).run(['k'], (tx) => void tx.write.incr('k'));
  await app.get(IdempotencyService).run('done', () => 1);
  await app.get(ShadowKeyService).replace('shadowed', { a: 1 });
  const never = new Promise<void>(() => undefined);
  app
    .get(TransactionService)
    .run(['k'], () => never)
    .catch(() => undefined);
  app
    .get(IdempotencyService)
    .run('hanging', () => never)
    .catch(() => undefined);
  app
    .get(ShadowKeyService)
    .replace('hanging', (writer) => writer.hset({ a: 1 }).then(() => never))
    .catch(() => undefined);
  const jobs = app.get(ReliableQueueService).get('jobs');
  await jobs.push('hanging');
  jobs.consume(() => never);
  app
    .get(ReliableQueueService)
    .get('none')
    .take({ waitMs: 600_000 })
    .catch(() => undefined);
  app
    .get(ListService)
    .move('none', 'none', { waitMs: 600_000 })
    .catch(() => undefined);
  while ((await jobs.counts()).processing === 0);
  await app.close();
  return 'closed';
});
