/** The number of operations that are kept; runs may be named by data. */
const MAX_OPERATIONS = 1_000;
/** The weight of the last run in the mean. */
const WEIGHT = 0.25;
/**
 * Shortest wait suggested to a duplicate, also for an operation that has never ended in this
 * process, in milliseconds.
 */
const MIN_MS = 1_000;

/**
 * Measures the usual durations of this process's operations, to tell duplicates when to come again.
 */
export class UsualDurations {
  private readonly means = new Map<string, { ms: number }>();

  ended(operation: string, durationMs: number): void {
    const mean = this.means.get(operation);
    if (mean) {
      mean.ms += WEIGHT * (durationMs - mean.ms);
      return;
    }
    // The oldest goes.
    if (this.means.size >= MAX_OPERATIONS) this.means.delete(this.means.keys().next().value!);
    this.means.set(operation, { ms: durationMs });
  }

  /**
   * @returns when a duplicate may find the run ended, in milliseconds; no later than its lease ends
   * unless it is renewed
   */
  retryAfterMs(operation: string, leaseLeftMs: number): number {
    const usual = Math.ceil(this.means.get(operation)?.ms ?? 0);
    return Math.min(Math.max(MIN_MS, usual), Math.max(1, leaseLeftMs));
  }
}
