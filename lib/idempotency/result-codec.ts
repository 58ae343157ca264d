import { describe } from '../atomic-redis.errors.js';

/** Encodes and decodes returned values. The default is JSON. */
export interface ResultCodec {
  /**
   * Returns the bytes for a returned value; text is kept as UTF-8. If it throws, the result cannot
   * be kept: the caller gets it, a repeated call gets an `IdempotencyResultUnavailableError`.
   */
  encode(value: unknown): string | Uint8Array;
  /**
   * Returns the value again. If it throws, an `IdempotencyRecordError` has that error as its cause,
   * and the method is not run.
   */
  decode(bytes: Buffer): unknown;
}

/** Hides stored values, errors and responses from anyone who can read Redis. */
export interface ResultEncryption {
  /**
   * Makes of a result what is stored.
   *
   * @param record the key in Redis; bind the result to it (as additional authenticated data), so
   * that it cannot be passed off as another's
   */
  encrypt(bytes: Buffer, record: string): Uint8Array;
  /**
   * Throws for a missing key or changed bytes. An `IdempotencyRecordError` then has that error as
   * its cause, and the method is not run.
   */
  decrypt(bytes: Buffer, record: string): Uint8Array;
}

/** JSON, and only for values that it gives back as they were. */
export const jsonCodec: ResultCodec = {
  encode(value) {
    if (!isJson(value, new Set())) throw new TypeError(notJson(value));
    return JSON.stringify(value);
  },
  decode: (bytes) => JSON.parse(bytes.toString()) as unknown,
};

/**
 * True if JSON carries the value there and back: no class instances, no NaN, no cycles, no silent
 * loss.
 */
function isJson(value: unknown, above: Set<object>): boolean {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return true;
  if (typeof value === 'number') return Number.isFinite(value) && !Object.is(value, -0);
  if (typeof value !== 'object' || above.has(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (!Array.isArray(value) && prototype !== Object.prototype && prototype !== null) return false;
  if ('toJSON' in value) return false;
  above.add(value);
  const children: unknown[] = Array.isArray(value)
    ? Array.from(value)
    : Object.values(value).filter((child) => child !== undefined);
  const all = children.every((child) => isJson(child, above));
  above.delete(value);
  return all;
}

/**
 * Names the first part of a value that JSON would not give back: `result.items[0].at is an instance
 * of Date`.
 */
function notJson(value: unknown): string {
  const found = partThatIsNotJson('result', value, new Set()) ?? ['result', value];
  return `${found[0]} is ${nameOf(found[1])}, which JSON would not give back. Return plain values (toISOString(), Object.fromEntries(…)), or give a codec`;
}

function partThatIsNotJson(
  path: string,
  value: unknown,
  above: Set<object>,
): [path: string, value: unknown] | undefined {
  if (isJson(value, new Set(above))) return undefined;
  const isPlain =
    Array.isArray(value) ||
    (typeof value === 'object' &&
      value !== null &&
      [Object.prototype, null].includes(Object.getPrototypeOf(value) as null));
  if (!isPlain || above.has(value as object) || 'toJSON' in (value as object)) return [path, value];
  const inside = new Set(above).add(value as object);
  for (const [key, child] of Object.entries(value as object)) {
    if (child === undefined && !Array.isArray(value)) continue;
    const found = partThatIsNotJson(
      Array.isArray(value) ? `${path}[${key}]` : `${path}.${key}`,
      child,
      inside,
    );
    if (found) return found;
  }
  return [path, value];
}

function nameOf(value: unknown): string {
  if (typeof value === 'object' && value !== null && describe(value).startsWith('an object'))
    return 'toJSON' in value ? 'an object with toJSON()' : 'an object inside itself';
  return ['symbol', 'bigint', 'function'].includes(typeof value) ? `a ${typeof value}` : describe(value);
}
