import { wrongInHistory } from '../histories/judge.js';
import { wrongOnCluster } from './cluster-verdict.js';
import { soakCluster } from './cluster.js';
import { reproducibly } from './reproduce.js';

/** Operations of each model that a history has at the least. */
const LEAST = { 'list-append': 50, counter: 20 };

describe('calls on a Cluster whose nodes change', () => {
  it('[CL-1] run once and report the truth while slots move and replicas are promoted in an orderly way', async () => {
    const given = { moves: 5, failovers: 2, kills: 0, stalls: 0, seed: 1 };
    await reproducibly('cluster', given, async () => {
      const report = await soakCluster({ ...given });
      expect(wrongOnCluster(report, { deaths: false, durable: false })).toEqual({});
      expect(report.verdict.examples).toEqual([]);
      expect(wrongInHistory(report.history, LEAST)).toEqual([]);
      expect(report.verdict.run.applied).toBeGreaterThan(50);
    });
  }, 250_000);

  it('[CL-2] with durability survive the death of a master that its replicas had not heard from', async () => {
    const given = { moves: 1, failovers: 0, kills: 1, stalls: 0, seed: 2 };
    await reproducibly('cluster', given, async () => {
      const durability = { replicas: 1, timeoutMs: 5_000 };
      const report = await soakCluster({ ...given, durability });
      expect(wrongOnCluster(report, { deaths: true, durable: true })).toEqual({});
      expect(wrongInHistory(report.history, LEAST)).toEqual([]);
      expect(report.verdict.run.applied).toBeGreaterThan(50);
    });
  }, 250_000);

  it('[CL-3] without durability lose at most the last acknowledged writes of a dead master, whole within one slot', async () => {
    const given = { moves: 0, failovers: 0, kills: 1, stalls: 0, seed: 3 };
    await reproducibly('cluster', given, async () => {
      const report = await soakCluster({ ...given });
      expect(wrongOnCluster(report, { deaths: true, durable: false })).toEqual({});
      expect(wrongInHistory(report.history, LEAST)).toEqual([]);
      // The kill cuts the replica off first: without a loss, nothing was tried.
      expect(report.verdict.pair.lost + report.verdict.run.lost).toBeGreaterThan(0);
    });
  }, 250_000);
});
