import * as check from '../atomic-redis.validation.js';
import { serviceDefaultChecks, type ServiceDefaults } from '../operations/operation.options.js';

/** Options of `ScriptService`, as the module's `scripts` option. @inline */
export interface ScriptModuleOptions extends ServiceDefaults {
  /**
   * Compare the keys of each command in your own scripts with the keys that the script declares. A
   * key that is not declared is an `UndeclaredKeyError`, and the command is not sent. The check
   * costs a second, short command in Redis for each that a script sends.
   * @default true unless NODE_ENV is "production"
   */
  checkKeys?: boolean;
}

export const scriptDefaults = (): Required<Omit<ScriptModuleOptions, keyof ServiceDefaults>> => ({
  checkKeys: process.env.NODE_ENV !== 'production',
});

export const scriptOptionChecks: Record<keyof ScriptModuleOptions, check.Check> = {
  ...serviceDefaultChecks,
  checkKeys: check.boolean,
};
