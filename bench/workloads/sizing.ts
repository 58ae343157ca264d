import type { INestApplicationContext } from '@nestjs/common';
import type { Redis } from 'ioredis';
import {
  CounterService,
  IdempotencyService,
  ReliableQueueService,
  ReservationService,
  TransactionService,
  TransferService,
} from 'nestjs-atomic-redis';
import { startApp } from '../app.js';
import type { Bench, Finding, Result, Workload } from '../workload.js';
import { payload } from './idempotent-scripts.js';

const CALLERS = 64;

/** Name and factory of each kind of record. */
const records: Record<string, (app: INestApplicationContext) => (n: number) => Promise<unknown>> = {
  'idempotent call, done, with a result of 200 bytes': (app) => {
    const idempotency = app.get(IdempotencyService);
    const result = 'r'.repeat(200);
    return (n) =>
      idempotency.run(`key ${n}`, () => result, { operation: 'orders.create', fingerprint: payload });
  },
  'idempotent call, done, with a result of 30 bytes': (app) => {
    const idempotency = app.get(IdempotencyService);
    const result = 'r'.repeat(28);
    return (n) =>
      idempotency.run(`key ${n}`, () => result, { operation: 'orders.create', fingerprint: payload });
  },
  'counter, within the minute after it was changed': (app) => {
    const counters = app.get(CounterService);
    return (n) => counters.add(`counter:{${n}}`, 1);
  },
  'counter without a marker, as it stays': (app) => {
    const counters = app.get(CounterService);
    return (n) => counters.add(`counter:{${n}}`, 1, { deduplicate: false });
  },
  'hold of a reservation, one of 100 of a counter, without its marker': (app) => {
    const reservations = app.get(ReservationService);
    return (n) =>
      reservations.hold(`stock:{${Math.floor(n / 100)}}`, 1, {
        ttlMs: 600_000,
        min: -1_000_000,
        deduplicate: false,
      });
  },
  'job of 100 bytes that waits, without the marker of its push': (app) => {
    const queue = app.get(ReliableQueueService).get<string>('jobs');
    return () => queue.push('j'.repeat(98), { deduplicate: false });
  },
  'marker of a transfer, for a minute beyond its time-out': (app) => {
    const transfers = app.get(TransferService);
    return () => transfers.transfer({ from: 'account:a', to: 'account:b', amount: 1, min: -1_000_000_000 });
  },
};

async function bytesPer(bench: Bench, count: number, kind: (typeof records)[string]): Promise<number> {
  await bench.admin.flushall();
  const app = await startApp(bench.url, { namespace: 'a:' });
  try {
    const make = kind(app);
    // Creates the state that exists once, whatever the number of records.
    await make(count);
    const before = await usedMemory(bench.admin);
    let next = 0;
    await Promise.all(
      Array.from({ length: CALLERS }, async () => {
        while (next < count) await make(next++);
      }),
    );
    return ((await usedMemory(bench.admin)) - before) / count;
  } finally {
    await app.close();
  }
}

async function usedMemory(admin: Redis): Promise<number> {
  const info = await admin.info('memory');
  return Number(/^used_memory_dataset:(\d+)/m.exec(info)?.[1]) + overheadOfKeys(info);
}

/** The tables of keys, which Redis counts as overhead. */
const overheadOfKeys = (info: string): number => {
  const of = (name: string): number => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? 0);
  return (
    of('used_memory_overhead') -
    of('mem_clients_normal') -
    of('mem_clients_slaves') -
    of('used_memory_startup')
  );
};

async function connections({ url, admin }: Bench): Promise<Finding[]> {
  await admin.flushall();
  const count = async (): Promise<number> =>
    ((await admin.client('LIST')) as string).trim().split('\n').length - 1;
  const app = await startApp(url);
  const found: Finding[] = [];
  const note = async (what: string): Promise<void> => {
    found.push({ what: `connections of a process ${what}`, value: String(await count()) });
  };
  try {
    await note('after boot');
    const transactions = app.get(TransactionService);
    await Promise.all(
      Array.from({ length: CALLERS }, (_, n) =>
        transactions.run([`t:${n}`], (tx) => void tx.write.set(`t:${n}`, 1)),
      ),
    );
    await note(`after ${CALLERS} transactions at the same time`);
    await app
      .get(CounterService)
      .add('durable', 1, { durability: { replicas: 1, timeoutMs: 1 } })
      .catch(() => {});
    await note('and a call with durability');
    const taking = app.get(ReliableQueueService).get('jobs').take({ waitMs: 2_000 });
    const idempotency = app.get(IdempotencyService);
    const first = idempotency.run('slow', () => new Promise((resolve) => setTimeout(resolve, 1_000)));
    const second = idempotency.run('slow', () => 0, { onDuplicate: 'wait' });
    await new Promise((resolve) => setTimeout(resolve, 500));
    await note('and a consumer that waits for a job, and a duplicate that waits for an answer');
    await Promise.all([first, second, taking]);
  } finally {
    await app.close();
  }
  return found;
}

export const sizing: Workload = {
  name: 'sizing',
  title: 'Memory and connections',
  about:
    'By how much the memory that the server counts for its data grew for each record, its place in the tables of keys and expiries included.',
  bars: [],
  async run(bench): Promise<Result> {
    const count = bench.isShort ? 200 : 50_000;
    const findings: Finding[] = [];
    for (const [what, kind] of Object.entries(records))
      findings.push({ what, value: `${Math.round(await bytesPer(bench, count, kind))} bytes` });
    findings.push(...(await connections(bench)));
    return { tables: [], findings };
  },
};
