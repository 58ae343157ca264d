import { getHeapSpaceStatistics } from 'node:v8';
import { IdempotencyService } from '../../lib/index.js';
import { startApp } from '../support/app.js';
import { worker } from '../support/worker.js';

const WARM_UP = 5_000;
const COUNTED = 15_000;
const CALLERS = 64;

const oldSpaceBytes = (): number =>
  getHeapSpaceStatistics().find(({ space_name: name }) => name === 'old_space')!.space_used_size;

/** Measures the bytes per run that only a full collection finds. */
worker<{ url: string }>(async ({ data }) => {
  const app = await startApp({ connection: data.url, idempotency: { timeoutMs: 20_000 } });
  const idempotency = app.get(IdempotencyService);
  let called = 0;
  const run = async (count: number): Promise<void> => {
    const last = called + count;
    const caller = async (): Promise<void> => {
      while (called < last) await idempotency.run(`key ${called++}`, () => ({ done: true }));
    };
    await Promise.all(Array.from({ length: CALLERS }, caller));
  };
  await run(WARM_UP);
  let leftBehind = 0;
  // In steps, since a full collection in between takes some away again.
  for (let before = oldSpaceBytes(); called < WARM_UP + COUNTED;) {
    await run(COUNTED / 10);
    const after = oldSpaceBytes();
    leftBehind += Math.max(0, after - before);
    before = after;
  }
  await app.close();
  return leftBehind / COUNTED;
});
