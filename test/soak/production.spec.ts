import { soakProduction, wrongInProduction } from './production.js';
import { reproducibly } from './reproduce.js';

describe('a day in production', () => {
  it('[SRV-23] every service recovers from each fault by itself, and nothing is doubled, lost or misreported', async () => {
    const given = { seconds: 60, seed: 1 };
    await reproducibly('production', given, async () => {
      const report = await soakProduction({ rounds: 1, seed: 1, limitMs: 60_000, plainLimitMs: 0 });
      expect(wrongInProduction(report)).toEqual([]);
      expect(report.recoveries).toHaveLength(8);
      for (const { applied } of report.verdicts) expect(applied).toBeGreaterThan(0);
    });
  }, 180_000);
});
