import { wrongInHistory } from '../histories/judge.js';
import { soakIdempotency } from './idempotency.js';
import { reproducibly } from './reproduce.js';

describe('idempotent runs under faults', () => {
  it('[ID-19] take effect once, and every client gets the same answer', async () => {
    const given = { keys: 150, kills: 2, pauses: 4, restarts: 1, seed: 1 };
    await reproducibly('idempotency', given, async () => {
      const report = await soakIdempotency({ ...given, limitMs: 400_000 });
      expect(report).toMatchObject({
        missing: 0,
        doubled: 0,
        contradicted: 0,
        unanswered: 0,
        leftovers: 0,
        final: [],
        examples: [],
      });
      // Four of five keys commit a transaction.
      expect(wrongInHistory(report.history, { 'list-append': 75 })).toEqual([]);
      expect(report.answers).toBeGreaterThanOrEqual(150 * 3);
      expect(report.struck).toBeGreaterThanOrEqual(20);
    });
  }, 500_000);
});
