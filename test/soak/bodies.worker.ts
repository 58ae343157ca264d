import { Test } from '@nestjs/testing';
import { AtomicRedisModule, TransactionService } from '../../lib/index.js';
import { worker } from '../support/worker.js';
import { runRandomBody, type ChainReport } from './random-body.js';
import { seededRandom } from './random.js';

export interface BodiesJob {
  /** Of the fault proxy of each worker. */
  urls: readonly string[];
  callers: number;
  seed: number;
}

/** Each caller runs one transaction after the other until a message comes. Returns what became of them. A promise that nobody handles ends it. */
worker<BodiesJob>(async ({ data, index, next, send }) => {
  const app = await Test.createTestingModule({
    imports: [AtomicRedisModule.forRoot({ connection: data.urls[index]!, namespace: 'atomic:' })],
  }).compile();
  app.useLogger(false);
  await app.init();
  const transactions = app.get(TransactionService);
  send({ ready: true });
  let going = true;
  void next().then(() => (going = false));
  const reports: ChainReport[] = [];
  const callers = Array.from({ length: data.callers }, async (_, caller) => {
    const random = seededRandom(data.seed * 1_000_003 + index * 1_009 + caller);
    for (let n = 0; going; n++)
      await runRandomBody({ transactions, random, reports, id: `${index}:${caller}:${n}` });
  });
  await Promise.all(callers);
  await app.close();
  return reports;
});
