import { integer, type Check } from '../atomic-redis.validation.js';

/** Defaults of `CounterService`, as the module's `counters` option. */
export interface CounterModuleOptions {
  /** How many operations on one key travel in one script call at the most. @default 512 */
  maxBatchSize?: number;
}

export const counterDefaults: Required<CounterModuleOptions> = { maxBatchSize: 512 };

export const counterOptionChecks: Record<keyof CounterModuleOptions, Check> = { maxBatchSize: integer(1, 512) };
