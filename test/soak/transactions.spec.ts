import { wrongInHistory } from '../histories/judge.js';
import { soakTransactions } from './transactions.js';
import { reproducibly } from './reproduce.js';

describe('transactions under faults', () => {
  it('[TX-12] are applied exactly if they report so: nothing is lost, doubled or unknown', async () => {
    const given = { transactions: 1_000, faults: 40, restarts: 1, seed: 1 };
    await reproducibly('transactions', given, async () => {
      const report = await soakTransactions({ ...given, limitMs: 150_000 });
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
      expect(wrongInHistory(report.history, { 'list-append': 1_000 })).toEqual([]);
      expect(report.applied).toBeGreaterThanOrEqual(1_000);
      expect(report.struck).toBeGreaterThanOrEqual(40);
    });
  }, 250_000);
});
