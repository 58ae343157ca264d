import { join } from 'node:path';
import { runWorkers } from '../support/workers.js';
import type { IncrementJob } from '../transactions/contention.worker.js';

/** The attempts that increments of one key took. */
export interface ContentionReport {
  /** Increments that succeeded. */
  readonly counted: number;
  /** Codes of the errors of those that did not. */
  readonly failed: readonly string[];
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}

/** Has worker processes increment one key at the same time, each with several callers. */
export async function contend(job: IncrementJob & { workers: number }): Promise<ContentionReport> {
  const { workers, ...data } = job;
  const results = await runWorkers<(number | string)[]>({
    script: join(__dirname, '../transactions/contention.worker.ts'),
    count: workers,
    data: data satisfies IncrementJob,
    timeoutMs: 120_000,
  });
  const all = results.flat();
  const attempts = all.filter((one) => typeof one === 'number').toSorted((a, b) => a - b);
  const quantile = (q: number) => attempts[Math.ceil(q * attempts.length) - 1] ?? 0;
  return {
    counted: attempts.length,
    failed: all.filter((one) => typeof one === 'string'),
    p50: quantile(0.5),
    p95: quantile(0.95),
    p99: quantile(0.99),
    max: quantile(1),
  };
}
