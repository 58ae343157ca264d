import type { Limit } from 'nestjs-atomic-redis';

/** Limits that fill up and become free many times in a second. */
export const LIMITS: readonly Limit[] = [
  { key: 'a', algorithm: 'gcra', limit: 997, perMs: 500, burst: 61 },
  { key: 'b', algorithm: 'gcra', limit: 7_919, perMs: 3_000 },
  { key: 'c', algorithm: 'fixed', limit: 251, perMs: 100 },
  { key: 'd', algorithm: 'sliding', limit: 499, perMs: 130 },
  { key: 'a', algorithm: 'sliding', limit: 2_003, perMs: 1_000 },
];
