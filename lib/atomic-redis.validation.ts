import { InvalidArgumentError } from './atomic-redis.errors.js';

/**
 * Checks one value; throws {@link InvalidArgumentError} naming `path`, the bound and the value
 * received.
 */
export type Check = (path: string, value: unknown) => void;

/**
 * A decade in milliseconds: the longest time any option accepts, so that every sum of times stays
 * an exact integer.
 */
export const MAX_TIME_MS = 315_576_000_000;

/** An integer within the bounds, both included. */
export const integer =
  (min: number, max: number = Number.MAX_SAFE_INTEGER): Check =>
  (path, value) => {
    if (!Number.isSafeInteger(value) || (value as number) < min || (value as number) > max) {
      throw new InvalidArgumentError(path, `an integer from ${min} to ${max}`, value);
    }
  };

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

/** A safe integer, or a bigint of 64 bits. */
export const int64: Check = (path, value) => {
  const fits =
    typeof value === 'bigint' ? value >= INT64_MIN && value <= INT64_MAX : Number.isSafeInteger(value);
  if (!fits) throw new InvalidArgumentError(path, 'a safe integer, or a bigint of 64 bits', value);
};

/** A time in whole milliseconds. */
export const milliseconds = (min = 1): Check => integer(min, MAX_TIME_MS);

/**
 * A time that is waited for, in whole milliseconds: up to the longest that a timer of Node.js can
 * wait, some 24 days.
 */
export const waitMs = (min = 1): Check => integer(min, 2 ** 31 - 1);

export const boolean: Check = (path, value) => {
  if (typeof value !== 'boolean') throw new InvalidArgumentError(path, 'a boolean', value);
};

export const func: Check = (path, value) => {
  if (typeof value !== 'function') throw new InvalidArgumentError(path, 'a function', value);
};

export const nonEmptyString: Check = (path, value) => {
  if (typeof value !== 'string' || value === '')
    throw new InvalidArgumentError(path, 'a non-empty string', value);
};

/**
 * Accepts text or bytes that arrive in Redis as they are: half of a surrogate pair would not.
 */
export const isBytes = (value: unknown): value is string | Buffer =>
  typeof value === 'string' ? value.isWellFormed() : Buffer.isBuffer(value);

/** Text or bytes that arrive in Redis as they are. */
export const bytes: Check = (path, value) => {
  if (!isBytes(value)) throw new InvalidArgumentError(path, 'a well-formed string or a Buffer', value);
};

/** Accepts text that is not empty, and arrives in Redis as it is. */
export const isText = (value: unknown): value is string =>
  typeof value === 'string' && value !== '' && value.isWellFormed();

/** Text that is not empty, and arrives in Redis as it is. */
export const text: Check = (path, value) => {
  if (isText(value)) return;
  nonEmptyString(path, value);
  throw new InvalidArgumentError(path, 'a well-formed string', value);
};

/** A Redis key as users give it: two that differ here must not be one there. */
export const key: Check = text;

export const oneOf =
  (...values: readonly string[]): Check =>
  (path, value) => {
    if (!values.includes(value as string)) {
      throw new InvalidArgumentError(path, values.map((v) => JSON.stringify(v)).join(' or '), value);
    }
  };

export const either =
  (expected: string, ...checks: readonly Check[]): Check =>
  (path, value) => {
    for (const check of checks) {
      try {
        return check(path, value);
      } catch (error) {
        if (!(error instanceof InvalidArgumentError)) throw error;
      }
    }
    throw new InvalidArgumentError(path, expected, value);
  };

export const instanceOf =
  (type: abstract new (...args: never[]) => unknown): Check =>
  (path, value) => {
    if (!(value instanceof type)) throw new InvalidArgumentError(path, `an instance of ${type.name}`, value);
  };

/** An object, or an instance of a class, that has these methods. */
export const methods =
  (...names: readonly string[]): Check =>
  (path, value) => {
    const has = (name: string): boolean =>
      typeof value === 'object' && value !== null && typeof Reflect.get(value, name) === 'function';
    if (!names.every(has))
      throw new InvalidArgumentError(path, `an object with the methods ${names.join(' and ')}`, value);
  };

/** Names the option that a misspelt one resembles: it lacks the unit, or has another case. */
function nearestTo(name: string, known: readonly string[]): string {
  const lower = name.toLowerCase();
  const nearest = known.find(
    (one) => one.toLowerCase().startsWith(lower) || lower.startsWith(one.toLowerCase()),
  );
  return nearest === undefined ? '' : `Did you mean ${nearest}? `;
}

/**
 * An object with only the named properties, each checked where it is present; the `required` ones
 * must be.
 */
export const options = (checks: Readonly<Record<string, Check>>, ...required: readonly string[]): Check => {
  const known = new Map(Object.entries(checks));
  return (path, value) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new InvalidArgumentError(path, 'an options object', value);
    }
    const given = value as Readonly<Record<string, unknown>>;
    const own = Object.keys(given);
    for (const name of own) {
      if (!known.has(name)) {
        throw new InvalidArgumentError(
          `${path}.${name}`,
          `absent: there is no such option. ${nearestTo(name, [...known.keys()])}The options are ${[...known.keys()].join(', ')}`,
          given[name],
        );
      }
    }
    // Counts properties of the class too, such as a getter, since the code reads them.
    const names = Object.getPrototypeOf(given) === Object.prototype ? own : known.keys();
    for (const name of names) if (given[name] !== undefined) known.get(name)!(`${path}.${name}`, given[name]);
    for (const name of required)
      if (given[name] === undefined) known.get(name)!(`${path}.${name}`, undefined);
  };
};

/** Fills in what is not given; a property given as undefined counts as not given. */
export function withDefaults<T extends object>(defaults: T, given: Partial<T> | undefined): T {
  const present = Object.entries(given ?? {}).filter(([, value]) => value !== undefined);
  return { ...defaults, ...Object.fromEntries(present) };
}
