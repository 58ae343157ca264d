import { soakTransactions } from './transactions.js';

describe('transactions under faults', () => {
  it('[TX-12] are applied exactly when they say so: nothing lost, nothing doubled, nothing unknown', async () => {
    const report = await soakTransactions({
      transactions: 1_000,
      faults: 40,
      restarts: 1,
      seed: 1,
      limitMs: 20_000,
    });
    expect(report).toMatchObject({
      unknown: 0,
      unexpected: 0,
      lost: 0,
      doubled: 0,
      appliedAllTheSame: 0,
      unreported: 0,
      wrongBalances: 0,
      sumAfter: report.sumBefore,
      examples: [],
    });
    expect(report.applied).toBeGreaterThanOrEqual(1_000);
    expect(report.struck).toBeGreaterThanOrEqual(40);
  }, 60_000);
});
