import * as check from '../atomic-redis.validation.js';

/** Of `ScriptService`, as the module's `scripts` option. */
export interface ScriptModuleOptions {
  /**
   * Whether each command of your own scripts is held against the keys that the script declares, before it is sent; what does not fit is an
   * `UndeclaredKeyError`. It costs a second, short command in Redis for each that a script sends.
   * @default true unless NODE_ENV is "production"
   */
  checkKeys?: boolean;
}

export const scriptDefaults = (): Required<ScriptModuleOptions> => ({
  checkKeys: process.env.NODE_ENV !== 'production',
});

export const scriptOptionChecks: Record<keyof ScriptModuleOptions, check.Check> = {
  checkKeys: check.boolean,
};
