import { wrongOnCluster } from './cluster-verdict.js';
import { soakCluster } from './cluster.js';

describe('calls on a Cluster whose nodes change', () => {
  it('[CL-1] are made once and told as they are, while slots move and replicas are promoted in an orderly way', async () => {
    const report = await soakCluster({ moves: 5, failovers: 2, kills: 0, stalls: 0, seed: 1 });
    expect(wrongOnCluster(report, { deaths: false, durable: false })).toEqual({});
    expect(report.verdict.examples).toEqual([]);
    expect(report.verdict.run.applied).toBeGreaterThan(50);
  }, 120_000);

  it('[CL-2] with durability are not lost by the death of a master that its replicas had not heard from', async () => {
    const durability = { replicas: 1, timeoutMs: 5_000 };
    const report = await soakCluster({ moves: 1, failovers: 0, kills: 1, stalls: 0, durability, seed: 2 });
    expect(wrongOnCluster(report, { deaths: true, durable: true })).toEqual({});
    expect(report.verdict.run.applied).toBeGreaterThan(50);
  }, 120_000);

  it('[CL-3] without durability lose at the most what a master acknowledged just before it died, whole where it lies in one slot', async () => {
    const report = await soakCluster({ moves: 0, failovers: 0, kills: 1, stalls: 0, seed: 3 });
    expect(wrongOnCluster(report, { deaths: true, durable: false })).toEqual({});
    // The kill cuts the replica off first: without a loss, nothing was tried.
    expect(report.verdict.pair.lost + report.verdict.run.lost).toBeGreaterThan(0);
  }, 120_000);
});
