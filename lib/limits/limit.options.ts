import { integer, type Check } from '../atomic-redis.validation.js';
import { serviceDefaultChecks, type ServiceDefaults } from '../operations/operation.options.js';

/** Defaults of `LimitService`, as the module's `limits` option. @inline */
export interface LimitModuleOptions extends ServiceDefaults {
  /**
   * Largest number of limits that calls of `take` in one script call take from, one after the
   * other. A call on more limits travels alone.
   * @default 512
   */
  maxBatchSize?: number;
}

export const limitDefaults: Required<Omit<LimitModuleOptions, keyof ServiceDefaults>> = { maxBatchSize: 512 };

export const limitOptionChecks: Record<keyof LimitModuleOptions, Check> = {
  ...serviceDefaultChecks,
  maxBatchSize: integer(1, 512),
};
