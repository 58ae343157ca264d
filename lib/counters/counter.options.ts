import { integer, milliseconds, type Check } from '../atomic-redis.validation.js';

/** Defaults of `CounterService`, as the module's `counters` option. */
export interface CounterModuleOptions {
  /** How many operations, on one counter or several, travel in one script call at the most. @default 512 */
  maxBatchSize?: number;
  /**
   * How long after the last undoable add to a counter an add can still be undone, in milliseconds. It bounds how long a method under
   * `@AtomicCounter` may run and still be undone. @default 3600000
   */
  undoWindowMs?: number;
}

export const counterDefaults: Required<CounterModuleOptions> = { maxBatchSize: 512, undoWindowMs: 3_600_000 };

export const counterOptionChecks: Record<keyof CounterModuleOptions, Check> = {
  maxBatchSize: integer(1, 512),
  undoWindowMs: milliseconds(),
};
