import { UsualDurations } from '../../lib/idempotency/usual-durations.js';

describe('usual durations', () => {
  it('[ID-23] are a second, or the rest of the lease, for an operation that has never ended', () => {
    const durations = new UsualDurations();
    expect(durations.retryAfterMs('a', 30_000)).toBe(1_000);
    expect(durations.retryAfterMs('a', 400)).toBe(400);
    expect(durations.retryAfterMs('a', -5)).toBe(1);
  });

  it('[ID-23] follow the last runs, and never exceed the lease', () => {
    const durations = new UsualDurations();
    durations.ended('a', 20_000.4);
    expect(durations.retryAfterMs('a', 30_000)).toBe(20_001);
    expect(durations.retryAfterMs('a', 5_000)).toBe(5_000);
    for (let i = 0; i < 30; i++) durations.ended('a', 2_000);
    const usual = durations.retryAfterMs('a', 30_000);
    expect(usual).toBeGreaterThanOrEqual(2_000);
    expect(usual).toBeLessThan(2_100);
    expect(durations.retryAfterMs('b', 30_000)).toBe(1_000);
  });

  it('[ID-23] are kept only for the latest operations, a bounded number of them', () => {
    const durations = new UsualDurations();
    for (let i = 0; i <= 1_000; i++) durations.ended(String(i), 9_000);
    expect(durations.retryAfterMs('0', 30_000)).toBe(1_000);
    expect(durations.retryAfterMs('1', 30_000)).toBe(9_000);
    expect(durations.retryAfterMs('1000', 30_000)).toBe(9_000);
  });
});
