import { integer, type Check } from '../atomic-redis.validation.js';

/** Defaults of `LimitService`, as the module's `limits` option. */
export interface LimitModuleOptions {
  /**
   * Largest number of limits that calls of `take` in one script call take from, one after the
   * other. A call on more limits travels alone.
   * @default 512
   */
  maxBatchSize?: number;
}

export const limitDefaults: Required<LimitModuleOptions> = { maxBatchSize: 512 };

export const limitOptionChecks: Record<keyof LimitModuleOptions, Check> = { maxBatchSize: integer(1, 512) };
