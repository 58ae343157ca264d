import type { Cluster, Redis } from 'ioredis';
import { AtomicRedisError, type Transaction, type TransactionService } from 'nestjs-atomic-redis';
import { waitFor } from './wait-for.js';

export interface Refusal {
  readonly begin: () => Promise<unknown>;
  readonly end: () => Promise<unknown>;
  /** Duration of a temporary refusal, in milliseconds. */
  readonly passesAfterMs?: number;
}

/** Several callers share an EXEC; or several transactions are part of one. */
export const WAYS = { alone: 1, together: 4, joined: 1 } as const;
export type Way = keyof typeof WAYS;

const JOINED = 3;

export const told = (result: PromiseSettledResult<unknown>): object => {
  if (result.status === 'fulfilled') return { applied: true };
  const { reason } = result as { reason: AtomicRedisError & { reply?: string } };
  expect(reason).toBeInstanceOf(AtomicRedisError);
  const { code, reply, outcome, retryable } = reason;
  return { code, reply, outcome, retryable };
};

/**
 * Returns the callers' answers for transactions on one key, the first of which has read it when the
 * refusal begins. Asserts that exactly the writes reported as applied exist.
 */
export async function tellRefused(
  { transactions, client, key }: { transactions: TransactionService; client: Redis | Cluster; key: string },
  way: Way,
  { begin, end, passesAfterMs }: Refusal,
): Promise<object[]> {
  const list = `{${key}}:list`;
  await client.set(key, 0);
  await client.del(list);
  let begun: Promise<unknown> | undefined;
  const add = async (tx: Transaction, name: unknown): Promise<void> => {
    const value = Number(await tx.read.get(key));
    await (begun ??= begin());
    tx.write.set(key, value + 1);
    tx.write.rpush(list, String(name));
  };
  const join = (i: number): Promise<void> =>
    transactions.run([`{${key}}:${i}`], async (tx) => {
      await tx.read.get(`{${key}}:${i}`);
      await (begun ??= begin());
      tx.write.rpush(list, i);
    });
  const pay = (i: number): Promise<void> =>
    transactions.run(
      [key],
      async (tx) => {
        if (way !== 'joined') return await add(tx, i);
        const value = Number(await tx.read.get(key));
        await Promise.all(Array.from({ length: JOINED }, (_, part) => join(part)));
        tx.write.set(key, value + 1);
      },
      { timeoutMs: passesAfterMs === undefined ? 1_500 : 20_000 },
    );
  const paying = Promise.allSettled(Array.from({ length: WAYS[way] }, (_, i) => pay(i)));
  if (passesAfterMs !== undefined) {
    await waitFor('the refusal', () => begun !== undefined);
    await begun;
    await new Promise((resolve) => setTimeout(resolve, passesAfterMs));
    await end();
  }
  const results = (await paying).map(told);
  if (passesAfterMs === undefined) await end();
  const applied = results.filter((one) => 'applied' in one).length;
  expect(Number(await client.get(key))).toBe(applied);
  expect(await client.llen(list)).toBe(way === 'joined' ? applied * JOINED : applied);
  return results;
}
