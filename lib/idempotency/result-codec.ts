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
    if (!isJson(value, [])) throw new TypeError(notJson(value));
    return JSON.stringify(value);
  },
  decode: (bytes) => JSON.parse(bytes.toString()) as unknown,
};

/**
 * True if JSON carries the value there and back: no class instances, no NaN, no cycles, no silent
 * loss. If not, `above` ends with the objects around the part that it does not carry.
 */
function isJson(value: unknown, above: object[]): boolean {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return true;
  if (typeof value === 'number') return Number.isFinite(value) && !Object.is(value, -0);
  // Most values are nested a few levels deep, so a list is searched faster than a set.
  if (typeof value !== 'object' || above.includes(value)) return false;
  const isList = Array.isArray(value);
  const prototype: unknown = Object.getPrototypeOf(value);
  if (!isList && prototype !== Object.prototype && prototype !== null) return false;
  if ('toJSON' in value) return false;
  above.push(value);
  // Holes of a sparse array are values too, and refused.
  const children: readonly unknown[] = isList ? value : Object.values(value);
  for (let i = 0; i < children.length; i++) {
    const child = children[i];
    if (child === undefined && !isList) continue;
    if (!isJson(child, above)) return false;
  }
  above.pop();
  return true;
}

/**
 * Names the first part of a value that JSON would not give back: `result.items[0].at is an instance
 * of Date`.
 */
function notJson(value: unknown): string {
  const [path, part] = partThatIsNotJson(value);
  return `${path} is ${kindNameOf(part)}, which JSON would not give back. Return plain values (toISOString(), Object.fromEntries(…)), or give a codec`;
}

/** The time that this takes grows with the value, and no faster: a client may have sent it. */
function partThatIsNotJson(root: unknown): [path: string, part: unknown] {
  const above: object[] = [];
  isJson(root, above);
  let path = 'result';
  let part = root;
  for (const [i, container] of above.entries()) {
    const isLast = i === above.length - 1;
    const isWanted = (child: unknown): boolean =>
      isLast ? isRefused(child, container, above) : child === above[i + 1];
    const found = Object.entries(container).find(([, child]) => isWanted(child));
    // It gave another part when it was looked at again.
    if (!found) return [path, container];
    path += Array.isArray(container) ? `[${found[0]}]` : `.${found[0]}`;
    part = found[1];
  }
  return [path, part];
}

const isRefused = (child: unknown, container: object, above: readonly object[]): boolean =>
  child === undefined ? Array.isArray(container) : !isJson(child, [...above]);

function kindNameOf(value: unknown): string {
  if (typeof value === 'object' && value !== null && describe(value).startsWith('an object'))
    return 'toJSON' in value ? 'an object with toJSON()' : 'an object inside itself';
  return ['symbol', 'bigint', 'function'].includes(typeof value) ? `a ${typeof value}` : describe(value);
}
