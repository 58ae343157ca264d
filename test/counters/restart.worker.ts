import { CounterService } from '../../lib/index.js';
import { startApp } from '../support/app.js';
import { worker } from '../support/worker.js';

/** Adds once, and returns the result. */
worker<{ url: string; amount: number; timeoutMs: number }>(async ({ data, send }) => {
  const app = await startApp({ connection: data.url });
  const counters = app.get(CounterService);
  await counters.get('warm');
  send('adding');
  const result = await counters.add('n', data.amount, { timeoutMs: data.timeoutMs });
  await app.close();
  return result;
});
