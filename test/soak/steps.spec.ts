import { soakSteps } from './steps.js';
import { reproducibly } from './reproduce.js';

describe('runs of three steps under faults, in a short run', () => {
  it('[ID-58] charge once per key, transfer at most once, reserve exactly once, and end in a result or a held key', async () => {
    const given = { keys: 120, faults: 30, seed: 7 };
    await reproducibly('steps', given, async () => {
      const report = await soakSteps({ ...given, limitMs: 150_000 });
      expect(report).toMatchObject({ lost: 0, wrong: [] });
      expect(report.paid + report.held).toBe(120);
      expect(report.paid).toBeGreaterThan(0);
      expect(report.kills + report.stops).toBeGreaterThan(0);
    });
  }, 240_000);
});
