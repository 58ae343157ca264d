import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import { ReliableQueueService, TransactionService } from 'nestjs-atomic-redis';
import { startApp } from '../app.js';
import type { Contestant } from '../harness.js';
import { OURS, type Bench, type Comparison } from '../workload.js';

const FLOOR = 'floor: WATCH loop that pushes, ioredis';
const WITHOUT = 'the same transaction without a push';
const THEN_PUSH = 'the same transaction, then a push';

/** As many as ours has by default. */
const CONNECTIONS = 10;

const job = { to: 'ada@example.org', subject: 'Your order', order: 4711 };

const keyOf = (n: number): string => `pushing:${n % 100_000}`;

/**
 * WATCH and GET in one write, then MULTI, SET, the commands of the push, and EXEC. Each caller has
 * a connection to itself, as far as there are enough.
 */
async function floor({ url }: Bench): Promise<Contestant> {
  const clients = Array.from({ length: CONNECTIONS }, () => new Redis(url));
  await Promise.all(clients.map((client) => client.ping()));
  const idle = [...clients];
  const waiting: ((client: Redis) => void)[] = [];
  const take = (): Promise<Redis> | Redis =>
    idle.pop() ?? new Promise<Redis>((resolve) => waiting.push(resolve));
  const giveBack = (client: Redis): void => {
    const next = waiting.shift();
    if (next) next(client);
    else idle.push(client);
  };
  return {
    name: FLOOR,
    async op(n) {
      const client = await take();
      try {
        const key = keyOf(n);
        const read = await client
          .pipeline([
            ['watch', key],
            ['get', key],
          ])
          .exec();
        const id = randomBytes(16).toString('base64url');
        await client
          .multi()
          .set(key, Number(read?.[1]?.[1]) + 1)
          .hset('floor:jobs', id, JSON.stringify(job))
          .rpush('floor:pending', id)
          .zadd('floor:wake', 0, '1')
          .exec();
      } finally {
        giveBack(client);
      }
    },
    close: async () => clients.forEach((client) => client.disconnect()),
  };
}

async function ours({ url }: Bench): Promise<readonly Contestant[]> {
  const app = await startApp(url, { transactions: { maxConnections: CONNECTIONS } });
  const transactions = app.get(TransactionService);
  const queue = app.get(ReliableQueueService).get<typeof job>('bench');
  const run = (n: number, pushes: boolean): Promise<void> =>
    transactions.run([keyOf(n)], async (tx) => {
      tx.write.set(keyOf(n), Number(await tx.read.get(keyOf(n))) + 1);
      if (pushes) tx.push(queue, job);
    });
  const thenPush = async (n: number): Promise<void> => {
    await run(n, false);
    await queue.push(job);
  };
  const nothing = (): Promise<void> => Promise.resolve();
  return [
    { name: OURS, op: (n) => run(n, true), close: () => app.close() },
    { name: WITHOUT, op: (n) => run(n, false), close: nothing },
    { name: THEN_PUSH, op: thenPush, close: nothing },
  ];
}

export const transactionPush: Comparison = {
  floor: FLOOR,
  name: 'transaction-push',
  title: 'Transaction that pushes a job',
  about:
    'WATCH, GET, MULTI, SET, the commands of one push, EXEC, on a key of its own, on 10 connections each; beside it the transaction alone, and with a push after it.',
  callers: [1, 64],
  bars: [
    { contestant: OURS, against: FLOOR, least: 0.8 },
    // No round trip more.
    { contestant: OURS, against: WITHOUT, least: 0.8, at: [1] },
    { contestant: OURS, against: THEN_PUSH, least: 1.15, at: [1] },
  ],
  start: async (bench: Bench) => [await floor(bench), ...(await ours(bench))],
};
