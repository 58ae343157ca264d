import { AtomicRedisError, TransactionService } from '../../lib/index.js';
import { startApp } from '../support/app.js';
import { recordOperation } from '../histories/recorder.js';
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
  const app = await startApp({ connection: url });
  const transactions = app.get(TransactionService);

  const increment = async (): Promise<number | string> => {
    try {
      const { attempt } = await recordOperation(
        { name: 'add', model: 'counter', key, args: { by: 1 } },
        () =>
          transactions.run([key], async (tx) => {
            const value = Number(await tx.read.get(key)) + 1;
            tx.write.set(key, value);
            return { value, attempt: tx.attempt };
          }),
        { resultOf: ({ value }) => ({ value, applied: 1, limited: false }) },
      );
      return attempt;
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
