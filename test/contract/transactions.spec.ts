import {
  AtomicRedisModule,
  CrossSlotError,
  OptimisticRetry,
  InjectTransaction,
  Transaction,
  TransactionConflictError,
  TransactionService,
} from 'nestjs-atomic-redis';
import { Injectable } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
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
  const target = useTarget(targetOfEnvironment(), { asUser: true, replicasPerMaster: 1 });
  let app: TestingModule;
  let transactions: TransactionService;

  beforeAll(async () => {
    app = await Test.createTestingModule({
      imports: [
        AtomicRedisModule.forRoot({
          connection: target.connection(),
          namespace: 'atomic:',
          transactions: { requireSameSlot: true },
        }),
      ],
      providers: [Accounts],
    }).compile();
    await app.init();
    transactions = app.get(TransactionService);
  });

  afterAll(() => app?.close());

  it('[SRV-1] loses none of many increments, on many keys in many slots', async () => {
    const accounts = app.get(Accounts);
    await Promise.all(Array.from({ length: 200 }, (_, i) => accounts.deposit(`a${i % 20}`, 1)));
    for (let i = 0; i < 20; i++) expect(await target.client.get(`app:account:{a${i}}`)).toBe('10');
  });

  it('[SRV-1] (T16) keys of two slots are refused before any command', async () => {
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

  it('[SRV-1] nothing of a conflict is written, and the caller is told after its attempts', async () => {
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

  it('[SRV-1] an error of the work reaches the caller untouched, and nothing is written', async () => {
    const mine = new Error('mine');
    const failed = transactions.run(['app:k'], (tx) => {
      tx.write.set('app:k', 1);
      throw mine;
    });
    await expect(failed).rejects.toBe(mine);
    expect(await target.client.exists('app:k')).toBe(0);
  });
});
