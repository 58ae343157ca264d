import { getHeapSpaceStatistics } from 'node:v8';
import { Test } from '@nestjs/testing';
import { AtomicRedisModule, IdempotencyService } from '../../lib/index.js';
import { worker } from '../support/worker.js';

const WARM_UP = 5_000;
const COUNTED = 15_000;
const CALLERS = 64;

const oldSpaceBytes = (): number =>
  getHeapSpaceStatistics().find(({ space_name: name }) => name === 'old_space')!.space_used_size;

/** How many bytes a run leaves behind that only a full collection finds. */
worker<{ url: string }>(async ({ data }) => {
  const app = await Test.createTestingModule({
    imports: [
      AtomicRedisModule.forRoot({
        connection: data.url,
        namespace: 'atomic:',
        idempotency: { timeoutMs: 20_000 },
      }),
    ],
  }).compile();
  await app.init();
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
