import { soakBodies } from './bodies.js';

describe('transactions with bodies of any kind, under faults', () => {
  it('[TX-12] leave one chain for each key: every link of an applied one once, none of another', async () => {
    const report = await soakBodies({
      transactions: 600,
      faults: 25,
      restarts: 1,
      seed: 3,
      limitMs: 25_000,
    });
    expect(report).toMatchObject({ broken: 0, missing: 0, doubled: 0, stray: 0, examples: [] });
    expect(report.applied).toBeGreaterThan(300);
  }, 90_000);

  it('[TX-16] leave no outcome unknown where the server is healthy', async () => {
    const report = await soakBodies({
      transactions: 1_500,
      faults: 0,
      restarts: 0,
      seed: 4,
      limitMs: 25_000,
    });
    expect(report).toMatchObject({ broken: 0, missing: 0, doubled: 0, stray: 0, examples: [], unknowns: [] });
    expect(report.notApplied).toBeGreaterThan(0);
  }, 90_000);
});
