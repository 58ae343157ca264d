import { measureShadowSwap } from './shadow-swap.js';

describe('swaps of a large hash', () => {
  it('[SK-13] show readers whole values, and take little memory', async () => {
    const report = await measureShadowSwap({ fields: 50_000, rounds: 1, pauseMs: 1 });
    expect(report.torn).toEqual([]);
    expect(report.reads).toBeGreaterThan(100);
    expect(report.memoryMb).toBeLessThan(100);
  }, 150_000);
});
