import { Test } from '@nestjs/testing';
import { AtomicRedisModule, TransactionService } from '../../lib/index.js';
import { worker } from '../support/worker.js';
import { makeCall, type CallReport } from './calls.js';
import { seededRandom } from './random.js';

export interface TransferJob {
  /** Of the fault proxy of each worker. */
  urls: readonly string[];
  callers: number;
  seed: number;
}

/** Each caller makes one call after the other until a message comes. Returns what the calls reported. */
worker<TransferJob>(async ({ data, index, next, send }) => {
  const app = await Test.createTestingModule({
    imports: [AtomicRedisModule.forRoot({ connection: data.urls[index]!, namespace: 'atomic:' })],
  }).compile();
  app.useLogger(false);
  await app.init();
  const transactions = app.get(TransactionService);
  send({ ready: true });
  let going = true;
  void next().then(() => (going = false));

  const reports: CallReport[] = [];
  const callers = Array.from({ length: data.callers }, async (_, caller) => {
    const random = seededRandom(data.seed * 1_000_003 + index * 1_009 + caller);
    for (let n = 0; going; n++) reports.push(await makeCall(transactions, `${index}:${caller}:${n}`, random));
  });
  await Promise.all(callers);
  await app.close();
  return reports;
});
