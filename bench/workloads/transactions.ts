import { TransactionService } from 'nestjs-atomic-redis';
import { startApp } from '../app.js';
import type { Contestant } from '../harness.js';
import { OURS, type Bench, type Comparison } from '../workload.js';
import { FLOORS, lockLoop, nodeRedisLoop, watchLoop, type Incrementer } from './watch-loops.js';

/** As many as ours has by default. */
const CONNECTIONS = 10;

export async function ours(url: string): Promise<Incrementer> {
  const app = await startApp(url, { transactions: { maxConnections: CONNECTIONS } });
  const transactions = app.get(TransactionService);
  return {
    name: OURS,
    async increment(key) {
      let attempts = 0;
      await transactions.run(
        [key],
        async (tx) => {
          attempts++;
          tx.write.set(key, Number(await tx.read.get(key)) + 1);
        },
        { maxAttempts: 1_000, timeoutMs: 60_000 },
      );
      return attempts;
    },
    close: () => app.close(),
  };
}

const on =
  (keyOf: (n: number) => string) =>
  ({ name, increment, close }: Incrementer): Contestant => ({ name, op: (n) => increment(keyOf(n)), close });

export const transactionDistinct: Comparison = {
  floor: FLOORS.marked,
  name: 'transaction',
  title: 'Transaction, each on a key of its own',
  about: 'WATCH, GET, MULTI, SET, EXEC, without conflicts, on 10 connections each.',
  callers: [1, 64],
  bars: [
    { contestant: OURS, against: FLOORS.plain, least: 0.8 },
    { contestant: OURS, against: FLOORS.marked, least: 0.92 },
    { contestant: OURS, against: 'node-redis, pool', least: 1 },
  ],
  start: async ({ url }: Bench) =>
    (
      await Promise.all([
        watchLoop(url, { connections: CONNECTIONS, marker: false }),
        watchLoop(url, { connections: CONNECTIONS, marker: true }),
        ours(url),
        nodeRedisLoop(url, CONNECTIONS),
      ])
    ).map(on((n) => `distinct:${n % 100_000}`)),
};

export const transactionHot: Comparison = {
  floor: FLOORS.marked,
  name: 'transaction-hot',
  title: 'Transaction, all on one key, one process',
  about: 'The same on one key: every caller reads what another one changes.',
  callers: [64],
  bars: [
    { contestant: OURS, against: 'node-redis, pool', least: 10 },
    { contestant: OURS, against: 'redlock-universal', least: 5 },
  ],
  start: async ({ url }: Bench) =>
    (
      await Promise.all([
        watchLoop(url, { connections: CONNECTIONS, marker: true }),
        ours(url),
        nodeRedisLoop(url, CONNECTIONS),
        lockLoop(url),
      ])
    ).map(on(() => 'hot')),
};
