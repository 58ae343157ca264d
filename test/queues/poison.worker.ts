import { setTimeout as sleep } from 'node:timers/promises';
import { worker } from '../support/worker.js';
import { openQueues } from './queues.js';

export interface PoisonData {
  url: string;
  /** Queues that the process consumes. */
  queues: string[];
  concurrency: number;
  leaseMs: number;
  maxDeliveries: number;
  /** Loops of `take` in place of a consumer. */
  byHand: boolean;
}

/** Works until a job kills it: `poison` does, after a moment in which others run beside it. */
worker<PoisonData>(async ({ data }) => {
  const { url, concurrency, leaseMs, maxDeliveries, byHand } = data;
  const { queues } = await openQueues(url);
  const work = async (payload: string): Promise<void> => {
    await sleep(payload === 'poison' ? 100 : 300);
    if (payload === 'poison') process.kill(process.pid, 'SIGKILL');
  };
  for (const name of data.queues) {
    const queue = queues.get<string>(name, { leaseMs, maxDeliveries });
    if (!byHand) queue.consume((job) => work(job.payload), { concurrency });
    else
      for (let i = 0; i < concurrency; i++)
        void (async () => {
          for (;;) {
            const job = await queue.take({ waitMs: 2_000 });
            if (!job) continue;
            await work(job.payload);
            await job.ack();
          }
        })();
  }
  await new Promise(() => undefined);
});
