import { soakIdempotency } from './idempotency.js';

describe('idempotent runs under faults', () => {
  it('[ID-19] have their effect once, and every client is told the same answer', async () => {
    const report = await soakIdempotency({
      keys: 150,
      restarts: 1,
      kills: 2,
      pauses: 4,
      seed: 1,
      limitMs: 120_000,
    });
    expect(report).toMatchObject({
      missing: 0,
      doubled: 0,
      contradicted: 0,
      unanswered: 0,
      leftovers: 0,
      final: [],
      examples: [],
    });
    expect(report.answers).toBeGreaterThanOrEqual(150 * 3);
    expect(report.struck).toBeGreaterThanOrEqual(20);
  }, 200_000);
});
