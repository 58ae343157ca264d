import { InvalidArgumentError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { encodingOptionChecks, type Encoding, type EncodingOptions } from '../scripting/encoding.js';
import { enforceableOptionChecks, type EnforceableOptions } from '../operations/operation.options.js';
import { TtlChange } from './value-answer.js';

/** Options of every call that changes a value. */
export interface ValueOptions<E extends Encoding = Encoding> extends EnforceableOptions, EncodingOptions<E> {}

/** Options of calls that write a value. */
export interface ValueWriteOptions<E extends Encoding = Encoding> extends ValueOptions<E> {
  /** Time to live of the written value, in milliseconds. Default: see `keepTtl`. */
  ttlMs?: number;
  /**
   * Without `ttlMs`: keep the time to live that the key has, if any; false ends it. @default true
   */
  keepTtl?: boolean;
}

/** The moment at which a value expires, given in one of three ways. @inline */
export type Expiry =
  /** Milliseconds from now. */
  | { ttlMs: number; expireAt?: never; persist?: never }
  /**
   * A time of Redis's clock, in milliseconds since 1970 where it is a number. One in the past
   * deletes the value.
   */
  | { expireAt: Date | number; ttlMs?: never; persist?: never }
  /** Never. */
  | { persist: true; ttlMs?: never; expireAt?: never };

/** The latest moment that a Date can hold. */
const MAX_DATE_MS = 8_640_000_000_000_000;

const optionChecks = { ...enforceableOptionChecks, ...encodingOptionChecks } satisfies Record<
  keyof ValueOptions,
  check.Check
>;

const writeOptionChecks = {
  ...optionChecks,
  ttlMs: check.milliseconds(),
  keepTtl: check.boolean,
} satisfies Record<keyof ValueWriteOptions, check.Check>;

const moment: check.Check = (path, value) => {
  try {
    check.integer(0, MAX_DATE_MS)(path, value instanceof Date ? value.getTime() : value);
  } catch {
    throw new InvalidArgumentError(path, 'a valid Date, or milliseconds since 1970', value);
  }
};

const isTrue: check.Check = (path, value) => {
  if (value !== true) throw new InvalidArgumentError(path, 'true or absent', value);
};

const expiryChecks = { ttlMs: check.milliseconds(), expireAt: moment, persist: isTrue } satisfies Record<
  keyof Expiry,
  check.Check
>;

export const checkValueOptions: check.Check = check.options(optionChecks);

/** @returns the time to live, as the scripts take it */
export function checkWriteOptions(path: string, options: ValueWriteOptions): string {
  check.options(writeOptionChecks)(path, options);
  const { ttlMs, keepTtl } = options;
  if (ttlMs === undefined) return keepTtl === false ? TtlChange.None : TtlChange.Keep;
  if (keepTtl === true)
    throw new InvalidArgumentError(`${path}.keepTtl`, `absent or false when ${path}.ttlMs is given`, keepTtl);
  return String(ttlMs);
}

/** @returns command and time of the expiry, as the script takes them */
export function checkExpiry(
  path: string,
  options: Expiry & ValueOptions,
): { command: string; timeMs: number | '' } {
  check.options({ ...optionChecks, ...expiryChecks })(path, options);
  const given = Object.keys(expiryChecks).filter((name) => options[name as keyof Expiry] !== undefined);
  if (given.length !== 1)
    throw new InvalidArgumentError(
      path,
      'given exactly one of ttlMs, expireAt and persist',
      given.join(', ') || undefined,
    );
  const { ttlMs, expireAt } = options;
  if (ttlMs !== undefined) return { command: 'PEXPIRE', timeMs: ttlMs };
  if (expireAt !== undefined) return { command: 'PEXPIREAT', timeMs: Number(expireAt) };
  return { command: 'PERSIST', timeMs: '' };
}
