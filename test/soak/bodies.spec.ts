import { wrongInHistory } from '../histories/judge.js';
import { soakBodies, type BodiesReport } from './bodies.js';
import { reproducibly } from './reproduce.js';

describe('transactions with bodies of any kind, under faults', () => {
  const soak = async (
    given: Pick<Parameters<typeof soakBodies>[0], 'transactions' | 'faults' | 'restarts' | 'seed'>,
    judge: (report: BodiesReport) => void,
  ): Promise<boolean> =>
    reproducibly('bodies', given, async () => {
      const report = await soakBodies({ ...given, limitMs: 150_000 });
      expect(report).toMatchObject({ broken: 0, missing: 0, doubled: 0, stray: 0, examples: [] });
      expect(wrongInHistory(report.history, { 'list-append': 300 })).toEqual([]);
      judge(report);
    });

  it('[TX-12] leave one chain for each key: every link of an applied transaction once, and none of any other', async () => {
    await soak({ transactions: 600, faults: 25, restarts: 1, seed: 3 }, ({ applied }) => {
      expect(applied).toBeGreaterThan(300);
    });
  }, 250_000);

  it('[TX-16] leave no outcome unknown where the server is healthy', async () => {
    await soak({ transactions: 1_500, faults: 0, restarts: 0, seed: 4 }, ({ unknowns, notApplied }) => {
      // A machine that stands still for longer than a transaction keeps for its reply leaves one.
      expect(unknowns.slice(5)).toEqual([]);
      expect(notApplied).toBeGreaterThan(0);
    });
  }, 250_000);
});
