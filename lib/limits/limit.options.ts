import { integer, type Check } from '../atomic-redis.validation.js';

/** Defaults of `LimitService`, as the module's `limits` option. */
export interface LimitModuleOptions {
  /**
   * Largest number of calls of `take`, on one limit or several, that travel in one script call.
   * @default 512
   */
  maxBatchSize?: number;
}

export const limitDefaults: Required<LimitModuleOptions> = { maxBatchSize: 512 };

export const limitOptionChecks: Record<keyof LimitModuleOptions, Check> = { maxBatchSize: integer(1, 512) };
