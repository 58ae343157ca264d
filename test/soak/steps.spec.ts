import { soakSteps } from './steps.js';

describe('runs of three steps under faults, shortly', () => {
  it('[ID-58] charge once by key, transfer at most once, reserve exactly once, and end in a result or among the held', async () => {
    const report = await soakSteps({ keys: 120, faults: 30, seed: 7, limitMs: 90_000 });
    expect(report).toMatchObject({ lost: 0, wrong: [] });
    expect(report.paid + report.held).toBe(120);
    expect(report.paid).toBeGreaterThan(0);
    expect(report.kills + report.stops).toBeGreaterThan(0);
  }, 120_000);
});
