import { IdempotencyService, TransactionService } from '../../lib/index.js';
import { startApp } from '../support/app.js';
import { worker } from '../support/worker.js';

/**
 * Commits a run by its transaction, says so, and waits to be killed before the run has stored its
 * result.
 */
worker<{ url: string; value: unknown }>(async ({ data, send }) => {
  const app = await startApp({ connection: data.url });
  await app.get(IdempotencyService).run(
    'key',
    async () => {
      await app.get(TransactionService).run(['k'], (tx) => void tx.write.incr('k'), {
        completesRun: () => data.value ?? undefined,
      });
      send('committed');
      await new Promise(() => undefined);
    },
    { leaseMs: 2_000 },
  );
});
