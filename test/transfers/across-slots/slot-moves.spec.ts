import { TransferPendingError, TransferService } from 'nestjs-atomic-redis';
import type { TestingModule } from '@nestjs/testing';
import type { Cluster } from 'ioredis';
import { useApp } from '../../support/app.js';
import { startCluster, type TestCluster } from '../../support/cluster.js';
import { waitFor } from '../../support/wait-for.js';
import { left } from './support.js';

describe('transfers across slots that move', () => {
  const boot = useApp();
  let cluster: TestCluster;
  let client: Cluster;
  let app: TestingModule;

  beforeAll(async () => {
    cluster = await startCluster({ replicasPerMaster: 0 });
    client = cluster.connect();
    app = await boot({
      connection: { nodes: cluster.nodes.map(({ host, port }) => ({ host, port })) },
      timeoutMs: 20_000,
    });
  });

  afterAll(async () => {
    client?.disconnect();
    await cluster?.stop();
  });

  it('[TR-20] conserve money while the slots of both balances, their lists and decisions move from node to node', async () => {
    const transfers = app.get(TransferService);
    const accounts = ['{a}', '{b}', '{c}'];
    for (const account of accounts) await client.set(account, 1_000);
    let done = false;
    const moved = new Map(accounts.map((account) => [account, 1_000]));
    let count = 0;
    let pending = 0;
    const caller = async (n: number): Promise<void> => {
      for (let i = n; !done; i++) {
        const from = accounts[i % 3]!;
        const to = accounts[(i + 1 + (n % 2)) % 3]!;
        try {
          await transfers.acrossSlots({ from, to, amount: 1 });
          moved.set(from, moved.get(from)! - 1);
          moved.set(to, moved.get(to)! + 1);
          count++;
        } catch (error) {
          if (!(error instanceof TransferPendingError)) throw error;
          pending++;
        }
      }
    };
    const recoverer = async (): Promise<void> => {
      while (!done) for (const from of accounts) await transfers.recover({ from, minAgeMs: 0 });
    };
    const work = Promise.all([caller(0), caller(1), caller(2), caller(3), recoverer()]);
    try {
      for (let round = 0; round < 3; round++) {
        for (const account of accounts) {
          const owner = await cluster.masterOf(account);
          const others = cluster.nodes.filter((node) => node !== owner);
          await cluster.migrateSlot(await cluster.slotOf(account), others[round % 2]!);
          const before = count;
          await waitFor('transfers after the move', () => count > before + 1);
        }
      }
    } finally {
      done = true;
      await work;
    }
    for (const from of accounts) await transfers.recover({ from, minAgeMs: 0 });
    const balances = await Promise.all(accounts.map(async (account) => Number(await client.get(account))));
    expect(balances.reduce((a, b) => a + b, 0)).toBe(3_000);
    // Each matches its caller's answer; Redis was never away for long.
    expect(pending).toBe(0);
    expect(balances).toEqual(accounts.map((account) => moved.get(account)));
    const { decisions, others } = await left({ client });
    expect(others).toEqual([]);
    expect(decisions.filter(({ ttlMs }) => ttlMs < 0)).toEqual([]);
  }, 120_000);
});
