import { describe } from '../atomic-redis.errors.js';

/** How returned values are kept: JSON, unless an application has a codec of its own. */
export interface ResultCodec {
  /**
   * The bytes that stand for a returned value; text is kept as UTF-8. What it throws makes the result one that cannot be kept: the caller gets it, a
   * repeated call an `IdempotencyResultUnavailableError`.
   */
  encode(value: unknown): string | Uint8Array;
  /** The value again. What it throws becomes the cause of an `IdempotencyRecordError`; the method is not run. */
  decode(bytes: Buffer): unknown;
}

/** Keeps what is stored from those who can read Redis: values, errors and responses alike. */
export interface ResultEncryption {
  /**
   * Makes of a result what is stored.
   *
   * @param record the key in Redis; bind the result to it (as additional authenticated data), so that it cannot be passed off as another's
   */
  encrypt(bytes: Buffer, record: string): Uint8Array;
  /** What it throws, for a key that is gone or bytes that were changed, becomes the cause of an `IdempotencyRecordError`; the method is not run. */
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

/** Whether JSON carries the value there and back: no class instances, no NaN, no cycles, nothing that would be lost in silence. */
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

/** Names the first part of a value that JSON would not give back: `result.items[0].at is an instance of Date`. */
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
