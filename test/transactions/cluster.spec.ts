import type { Cluster } from 'ioredis';
import type { TestingModule } from '@nestjs/testing';
import { CrossSlotError, IdempotencyService, TransactionService } from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { startCluster, type TestCluster } from '../support/cluster.js';

describe('a transaction on a Cluster', () => {
  const boot = useApp();
  let cluster: TestCluster;
  let client: Cluster;
  let app: TestingModule;
  let transactions: TransactionService;

  beforeAll(async () => {
    cluster = await startCluster();
    client = cluster.connect();
    const nodes = cluster.nodes.map(({ host, port }) => ({ host, port }));
    app = await boot({ connection: { nodes }, transactions: { timeoutMs: 20_000 } });
    transactions = app.get(TransactionService);
  });

  afterAll(async () => {
    client.disconnect();
    await cluster.stop();
  });

  const increment = (key: string, during?: (attempt: number) => Promise<unknown>): Promise<number> =>
    transactions.run([key], async (tx) => {
      const next = Number(await tx.read.get(key)) + 1;
      await during?.(tx.attempt);
      tx.write.set(key, next);
      return next;
    });

  const otherMaster = async (key: string) => {
    const owner = await cluster.masterOf(key);
    const masters = await Promise.all([100, 8_000, 16_000].map((slot) => cluster.masterOf(slot)));
    return masters.find((master) => master !== owner)!;
  };

  it('[TX-11] (T16) runs on the owner of the keys’ slot, for keys all over the slots', async () => {
    await Promise.all(Array.from({ length: 100 }, (_, i) => increment(`key:${i}`)));
    expect(await client.get('key:99')).toBe('1');
    await transactions.run(
      ['{a}:from', '{a}:to'],
      (tx) => void [tx.write.set('{a}:from', 1), tx.write.set('{a}:to', 2)],
    );
  });

  it('[TX-11] (T16) refuses keys in different slots before any I/O, and gives a remedy', async () => {
    const refused = transactions.run(['a', 'b'], () => 1);
    await expect(refused).rejects.toThrow(CrossSlotError);
    await expect(refused).rejects.toThrow(/hash tag/);
  });

  it('[TX-11] (T16) follows a slot that moved, even during the transaction', async () => {
    await increment('moved');
    await cluster.migrateSlot('moved', await otherMaster('moved'));
    await expect(increment('moved')).resolves.toBe(2);
    let moved = false;
    const during = async (): Promise<void> => {
      if (!moved) await cluster.migrateSlot('moved', await otherMaster('moved'));
      moved = true;
    };
    await expect(increment('moved', during)).resolves.toBe(3);
    expect(await client.get('moved')).toBe('3');
  });

  it('[TX-11] (T16) waits for the end of a migration, and writes nothing in part', async () => {
    await client.mset('{m}:a', 0, '{m}:b', 0);
    const both = (): Promise<void> =>
      transactions.run(['{m}:a', '{m}:b'], async (tx) => {
        const [a, b] = await tx.read.mget('{m}:a', '{m}:b');
        expect(a).toBe(b);
        tx.write.set('{m}:a', Number(a) + 1);
        tx.write.set('{m}:b', Number(b) + 1);
      });
    const migration = await cluster.beginMigration('{m}', await otherMaster('{m}'));
    await migration.moveKeys();
    const running = both();
    const settled = await Promise.race([
      running.then(() => 'done'),
      new Promise((r) => setTimeout(r, 300, 'waiting')),
    ]);
    expect(settled).toBe('waiting');
    await migration.finish();
    await running;
    expect(await client.mget('{m}:a', '{m}:b')).toEqual(['1', '1']);
  });

  it('[TX-11] is not lost to a migration that was begun and cancelled meanwhile', async () => {
    await increment('cancelled');
    let began = false;
    const during = async (): Promise<void> => {
      if (began) return;
      began = true;
      const migration = await cluster.beginMigration('cancelled', await otherMaster('cancelled'));
      await migration.cancel();
    };
    await expect(increment('cancelled', during)).resolves.toBe(2);
    const migration = await cluster.beginMigration('cancelled', await otherMaster('cancelled'));
    const running = increment('cancelled');
    await new Promise((resolve) => setTimeout(resolve, 100));
    await migration.cancel();
    await expect(running).resolves.toBe(3);
    expect(await client.get('cancelled')).toBe('3');
  });

  it('[TX-14] completes a run whose record lies in the slot of its keys, and gives a remedy otherwise', async () => {
    const idempotency = app.get(IdempotencyService);
    const deposit = (): Promise<number> =>
      transactions.run(
        ['{acct}:balance'],
        async (tx) => {
          const balance = Number(await tx.read.get('{acct}:balance')) + 5;
          tx.write.set('{acct}:balance', balance);
          return balance;
        },
        { completesRun: (balance) => balance },
      );
    await expect(idempotency.run('far', deposit)).rejects.toThrow(/colocateWith/);
    expect(await client.exists('{acct}:balance')).toBe(0);
    const near = (): Promise<number> => idempotency.run('near', deposit, { colocateWith: '{acct}:balance' });
    await expect(near()).resolves.toBe(5);
    await expect(near()).resolves.toBe(5);
    expect(await client.get('{acct}:balance')).toBe('5');
  });

  it('[TX-11] (T16) continues at the new owner after the master was killed', async () => {
    await increment('failover');
    await cluster.settled();
    const owner = await cluster.masterOf('failover');
    let killed = false;
    const during = async (): Promise<void> => {
      if (!killed) await owner.server.kill();
      killed = true;
    };
    await expect(increment('failover', during)).resolves.toBe(2);
    expect(await client.get('failover')).toBe('2');
  });
});
