import { Test } from '@nestjs/testing';
import { AtomicRedisError, AtomicRedisModule, TransactionService } from '../../lib/index.js';
import { worker } from '../support/worker.js';

export interface IncrementJob {
  url: string;
  key: string;
  callers: number;
  /** By each caller. */
  increments: number;
}

/** Returns for each increment the attempt that succeeded, or the code of its error. */
worker<IncrementJob>(async ({ data }) => {
  const { url, key, callers, increments } = data;
  const app = await Test.createTestingModule({
    imports: [AtomicRedisModule.forRoot({ connection: url, namespace: 'atomic:' })],
  }).compile();
  await app.init();
  const transactions = app.get(TransactionService);

  const increment = async (): Promise<number | string> => {
    try {
      return await transactions.run([key], async (tx) => {
        tx.write.set(key, Number(await tx.read.get(key)) + 1);
        return tx.attempt;
      });
    } catch (error) {
      if (error instanceof AtomicRedisError) return error.code;
      throw error;
    }
  };
  const results: (number | string)[] = [];
  await Promise.all(
    Array.from({ length: callers }, async () => {
      for (let n = 0; n < increments; n++) results.push(await increment());
    }),
  );
  await app.close();
  return results;
});
