import { integer, milliseconds, type Check } from '../atomic-redis.validation.js';
import { serviceDefaultChecks, type ServiceDefaults } from '../operations/operation.options.js';

/** Defaults of `CounterService`, as the module's `counters` option. @inline */
export interface CounterModuleOptions extends ServiceDefaults {
  /**
   * Largest number of operations, on one counter or several, that travel in one script call.
   * @default 512
   */
  maxBatchSize?: number;
  /**
   * Time after the last undoable add to a counter in which an add can still be undone, in
   * milliseconds. A method under `@AtomicCounter` that runs longer cannot be undone. @default
   * 3600000
   */
  undoWindowMs?: number;
}

export const counterDefaults: Required<Omit<CounterModuleOptions, keyof ServiceDefaults>> = {
  maxBatchSize: 512,
  undoWindowMs: 3_600_000,
};

export const counterOptionChecks: Record<keyof CounterModuleOptions, Check> = {
  ...serviceDefaultChecks,
  maxBatchSize: integer(1, 512),
  undoWindowMs: milliseconds(),
};
