import { wrongInHistory } from '../histories/judge.js';
import { canStepClocks } from '../support/stepped-clock.js';
import { soakClusterHistories, soakHistories } from './histories.js';
import { reproducibly } from './reproduce.js';

const LEAST = { 'list-append': 100, counter: 50, register: 50 };

/** Parts of `npm run soak -- histories`, with its options. */
describe('histories of several processes, judged by an independent checker', () => {
  const soak = async (given: { leap: number; parts: number }): Promise<boolean> => {
    const { leap, ...options } = { seconds: 8, ...given, seed: 1 };
    return reproducibly('histories', { ...options, leap }, async () => {
      const { history, faults } = await soakHistories({ ...options, leapMs: leap });
      expect(wrongInHistory(history, LEAST)).toEqual([]);
      expect(history.outcomes.ok).toBeGreaterThan(200);
      expect(history.dependencies).toBeGreaterThan(100);
      const steps = faults.filter(({ kind }) => kind.includes('clock'));
      expect(steps).toHaveLength(leap > 0 ? 2 : 0);
      expect(faults.filter(({ struck }) => struck === 0)).toEqual([]);
    });
  };

  if (canStepClocks())
    it('[TX-12] are strictly serializable and linearizable under lost, late and cut messages, kills and steps of the clock', async () => {
      expect(await soak({ leap: 30_000, parts: 2 })).toBe(true);
    }, 90_000);
  else
    it('[TX-12] are strictly serializable and linearizable under lost, late and cut messages and kills (no C compiler: no steps of the clock)', async () => {
      expect(await soak({ leap: 0, parts: 1 })).toBe(true);
    }, 90_000);

  it('[CL-3] lose at most the last acknowledged operations when masters die: whole, and with everything that followed from them', async () => {
    const given = { moves: 1, failovers: 1, kills: 1, parts: 8, seed: 2 };
    await reproducibly('histories', given, async () => {
      const { history, faults } = await soakClusterHistories(given);
      expect(wrongInHistory(history, LEAST)).toEqual([]);
      expect(history.outcomes.ok).toBeGreaterThan(200);
      expect(history.dependencies).toBeGreaterThan(100);
      expect(faults.filter(({ struck }) => struck === 0)).toEqual([]);
      // The master dies after 20 transactions that its replica did not hear of.
      expect(history.lost).toBeGreaterThan(0);
    });
  }, 250_000);
});
