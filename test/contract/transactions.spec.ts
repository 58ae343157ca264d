import {
  CrossSlotError,
  OptimisticRetry,
  InjectTransaction,
  Transaction,
  TransactionConflictError,
  TransactionService,
} from 'nestjs-atomic-redis';
import { Injectable } from '@nestjs/common';
import type { TestingModule } from '@nestjs/testing';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { targetOfEnvironment, useTarget } from '../support/target.js';

@Injectable()
class Accounts {
  constructor(@InjectTransaction() private readonly tx: Transaction) {}

  @OptimisticRetry({ watch: (id: string) => `app:account:{${id}}` })
  async deposit(id: string, amount: number): Promise<number> {
    const balance = Number(await this.tx.read.get(`app:account:{${id}}`)) + amount;
    this.tx.write.set(`app:account:{${id}}`, balance);
    return balance;
  }
}

describe('transactions', () => {
  const boot = useApp();
  const target = useTarget(targetOfEnvironment(), { asUser: true, replicasPerMaster: 1 });
  let app: TestingModule;
  let transactions: TransactionService;

  beforeAll(async () => {
    app = await boot(
      { connection: target.connection(), transactions: { requireSameSlot: true } },
      { providers: [Accounts] },
    );
    transactions = app.get(TransactionService);
  });

  it('[SRV-1] lose none of many increments, on many keys in many slots', async () => {
    const accounts = app.get(Accounts);
    await Promise.all(Array.from({ length: 200 }, (_, i) => accounts.deposit(`a${i % 20}`, 1)));
    for (let i = 0; i < 20; i++) expect(await target.client.get(`app:account:{a${i}}`)).toBe('10');
  });

  it('[SRV-1] (T16) refuse keys of two slots before any command', async () => {
    const counts = await Promise.all(
      (await target.masters()).map((node) =>
        countCommands(node, async () => {
          await expect(transactions.run(['app:a', 'app:b'], () => 1)).rejects.toThrow(CrossSlotError);
        }),
      ),
    );
    expect(counts.flatMap((count) => Object.keys(count).filter((name) => name !== 'role'))).toEqual([]);
    await expect(transactions.run(['app:{x}:a', 'app:{x}:b'], () => 1)).resolves.toBe(1);
  });

  it('[SRV-1] write nothing of a conflicting attempt, and report the conflict after maxAttempts', async () => {
    const key = 'app:contended';
    const conflict = transactions.run(
      [key],
      async (tx) => {
        const value = Number(await tx.read.get(key));
        await target.client.incr(key);
        tx.write.set(key, value + 100);
      },
      { maxAttempts: 3 },
    );
    await expect(conflict).rejects.toThrow(TransactionConflictError);
    expect(await target.client.get(key)).toBe('3');
  });

  it('[SRV-1] pass an error of the callback through unchanged, and write nothing', async () => {
    const mine = new Error('mine');
    const failed = transactions.run(['app:k'], (tx) => {
      tx.write.set('app:k', 1);
      throw mine;
    });
    await expect(failed).rejects.toBe(mine);
    expect(await target.client.exists('app:k')).toBe(0);
  });
});
