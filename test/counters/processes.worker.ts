import { CounterService } from '../../lib/index.js';
import { startApp } from '../support/app.js';
import { worker } from '../support/worker.js';

/** Adds 1 up to the limit, all calls at once, and returns how many were counted. */
worker<{ url: string; calls: number; max: number }>(async ({ data }) => {
  const app = await startApp({ connection: data.url });
  const counters = app.get(CounterService);
  const results = await Promise.all(
    Array.from({ length: data.calls }, () => counters.add('quota', 1, { max: data.max, ttlMs: 60_000 })),
  );
  await app.close();
  return results.filter(({ applied }) => applied === 1).length;
});
