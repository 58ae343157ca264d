import { TransactionService } from '../../lib/index.js';
import { seededRandom } from './random.js';
import { startApp } from '../support/app.js';
import { worker } from '../support/worker.js';

export interface CallingJob {
  /** URLs of the fault proxy of each worker. */
  readonly urls: readonly string[];
  readonly callers: number;
  readonly seed: number;
}

export interface Caller<Report> {
  readonly transactions: TransactionService;
  readonly random: () => number;
  /** Identifies this call; no other has it. */
  readonly id: string;
  /** Reports of all calls of the worker. */
  readonly reports: Report[];
}

/**
 * The body of a worker file: callers that make one call after the other until a message comes. Its
 * result is what they reported.
 */
export function callingWorker<Report>(call: (caller: Caller<Report>) => Promise<void>): void {
  worker<CallingJob>(async ({ data, index, next, send }) => {
    const app = await startApp({ connection: data.urls[index]! });
    const transactions = app.get(TransactionService);
    send({ ready: true });
    let going = true;
    void next().then(() => (going = false));
    const reports: Report[] = [];
    const callers = Array.from({ length: data.callers }, async (_, caller) => {
      const random = seededRandom(data.seed * 1_000_003 + index * 1_009 + caller);
      for (let n = 0; going; n++)
        await call({ transactions, random, reports, id: `${index}:${caller}:${n}` });
    });
    await Promise.all(callers);
    await app.close();
    return reports;
  });
}
