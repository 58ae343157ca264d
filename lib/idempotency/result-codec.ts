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
    if (!isJson(value, new Set())) throw new TypeError('JSON would not give this value back');
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
