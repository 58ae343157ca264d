import { Redis } from 'ioredis';
import { AtomicRedisError, type QueueJob, type ReliableQueue, type Transaction } from '../../lib/index.js';
import { openQueues } from '../queues/queues.js';
import { recordOperation } from '../histories/recorder.js';
import { worker } from '../support/worker.js';
import { HandoverKeys, HOT_KEYS, MAILS, ORDERS, type HandoverData } from './handover-jobs.js';

const PLACERS = 6;
const TERMS = { leaseMs: 1_500, maxDeliveries: 10_000, retry: { minMs: 20, maxMs: 300 } };

/** Places orders, ships those of all workers, and mails. */
worker<HandoverData>(async ({ data, send }) => {
  const told = new Redis(data.directUrl);
  const { queues, transactions } = await openQueues(data.url, { transactions: { timeoutMs: 4_000 } });
  const orders: ReliableQueue<string> = queues.get<string>(ORDERS, TERMS);
  const mails: ReliableQueue<string> = queues.get<string>(MAILS, TERMS);
  const hotKeyOf = (n: number): string => HOT_KEYS[n % HOT_KEYS.length]!;
  const count = async (tx: Transaction, key: string): Promise<void> => {
    tx.write.set(key, Number(await tx.read.get(key)) + 1);
  };

  orders.consume(
    (job: QueueJob<string>) =>
      recordOperation({ name: 'ship', args: job.payload }, () =>
        transactions.run(
          [hotKeyOf(job.payload.length)],
          async (tx) => {
            await count(tx, hotKeyOf(job.payload.length));
            tx.write.hincrby(HandoverKeys.shipped, job.payload, 1);
            // Some wait for their time.
            tx.push(mails, job.payload, { delayMs: job.payload.endsWith('7') ? 50 : 0 });
          },
          { completesJob: job },
        ),
      ),
    { concurrency: 6 },
  );
  mails.consume(
    (job: QueueJob<string>) =>
      transactions.run(
        [`handover:mail:${job.payload}`],
        (tx) => void tx.write.hincrby(HandoverKeys.mailed, job.payload, 1),
        {
          completesJob: job,
        },
      ),
    { concurrency: 6 },
  );
  send('ready');

  const place = async (placer: number): Promise<void> => {
    for (let n = 0; (await told.exists(HandoverKeys.closed)) === 0; n++) {
      const id = `${data.name}-${placer}-${n}`;
      try {
        await recordOperation({ name: 'place', key: hotKeyOf(n), args: id }, () =>
          transactions.run([hotKeyOf(n)], async (tx) => {
            await count(tx, hotKeyOf(n));
            tx.write.hincrby(HandoverKeys.placed, id, 1);
            tx.push(orders, id);
          }),
        );
        await told.sadd(HandoverKeys.toldDone, id);
      } catch (error) {
        const isRefused = error instanceof AtomicRedisError && error.outcome === 'not-applied';
        if (isRefused) await told.sadd(HandoverKeys.toldRefused, id);
      }
    }
  };
  await Promise.all(Array.from({ length: PLACERS }, (_, placer) => place(placer)));
  // Consumes until it is killed.
  await new Promise(() => undefined);
});
