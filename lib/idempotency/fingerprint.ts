import { createHash, hash } from 'node:crypto';
import { InvalidArgumentError } from '../atomic-redis.errors.js';

/**
 * The hash of a payload: equal for JSON that differs only in the order of its keys, however deep. A
 * Date counts as its ISO string, `toJSON` as what it returns, a property that is undefined as
 * absent, an instance of a class by its own enumerable properties; bytes, bigints, NaN and
 * infinities differ from every text.
 *
 * @throws InvalidArgumentError naming `options.fingerprint` for what does not show its content (a
 * Map, a Set, a RegExp, a promise, an instance with private fields only, a function, a symbol) and
 * for a cycle: two payloads that differ in it would pass for the same
 */
export const fingerprintOf = (payload: unknown): string => hash('sha256', canonical(payload), 'base64url');

/** An array or object whose items are being written. */
interface Open {
  readonly value: object;
  /** In order; none for an array. */
  readonly names: readonly string[] | undefined;
  /** The index of the next item. */
  at: number;
  isEmpty: boolean;
}

/**
 * From this depth on a set of what is around is kept, so that a deep payload costs no more than a
 * wide one.
 */
const DEEP = 32;

/** Not recursive: what a client sends can be nested deeper than functions can call each other. */
function canonical(payload: unknown): string {
  const path: Open[] = [];
  let deep: Set<object> | undefined;
  let text = '';
  let next: unknown = payload;
  for (;;) {
    const value = jsonOf(next);
    const leaf = leafOf(value);
    if (leaf === undefined) {
      const object = value as object;
      if (deep?.has(object) || isOneOf(path, object)) throw refused(payload, 'free of cycles');
      if (path.length >= DEEP) (deep ??= new Set()).add(object);
      const names = Array.isArray(object) ? undefined : namesOf(object);
      path.push({ value: object, names, at: 0, isEmpty: true });
      text += names ? '{' : '[';
    } else text += leaf;
    // Up to the next item, past the ends of what is complete.
    for (;;) {
      const open = path.at(-1);
      if (!open) return text;
      const { value: within, names } = open;
      if (open.at === (names ?? (within as unknown[])).length) {
        path.pop();
        deep?.delete(within);
        text += names ? '}' : ']';
        continue;
      }
      const name = names ? names[open.at]! : open.at;
      open.at++;
      next = (within as Record<string | number, unknown>)[name];
      if (names && (next === undefined || (typeof next === 'function' && !isPlain(within)))) continue;
      if (!open.isEmpty) text += ',';
      open.isEmpty = false;
      if (names) text += `${JSON.stringify(name)}:`;
      break;
    }
  }
}

/** Searches the outermost objects; deeper ones are in a set. */
function isOneOf(path: readonly Open[], object: object): boolean {
  for (let depth = 0; depth < path.length && depth < DEEP; depth++)
    if (path[depth]!.value === object) return true;
  return false;
}

function jsonOf(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? Number.NaN : value.toISOString();
  const { toJSON } = value as { toJSON?: unknown };
  return typeof toJSON === 'function' ? Reflect.apply(toJSON, value, []) : value;
}

/** Undefined for an array or object. */
function leafOf(value: unknown): string | undefined {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return JSON.stringify(value);
    case 'number':
      // NaN and infinities, which JSON writes as null: a client sends 1e999.
      return Number.isFinite(value) ? JSON.stringify(value) : String(value);
    case 'bigint':
      return `${value}n`;
    case 'undefined':
      return 'undefined';
    case 'object':
      if (value === null) return 'null';
      if (value instanceof Uint8Array) return `bytes:${Buffer.from(value).toString('base64')}`;
      return undefined;
    default:
      throw refused(value);
  }
}

/** @throws InvalidArgumentError for an object whose content is not in its properties */
function namesOf(object: object): readonly string[] {
  if (isPlain(object)) return Object.keys(object).toSorted();
  // The name is that of the class for what the language and the platform have: Map, Promise,
  // URLSearchParams.
  const isStream = typeof (object as { pipe?: unknown }).pipe === 'function';
  if (isStream || Object.prototype.toString.call(object) !== '[object Object]') throw refused(object);
  const names = Object.keys(object);
  if (names.length === 0 && hasMembers(object)) throw refused(object);
  // A file that was stored has another path at each attempt.
  return isStoredFile(object) ? STORED_FILE : names.toSorted();
}

/** Whichever realm made it: its prototype, if any, is the root of all. */
function isPlain(object: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(object);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/**
 * True if the object's class has more than a constructor: such an object may have content without
 * own properties.
 */
function hasMembers(object: object): boolean {
  for (let at: unknown = Object.getPrototypeOf(object); at !== null; at = Object.getPrototypeOf(at)) {
    if (Object.getPrototypeOf(at) === null) return false;
    if (Reflect.ownKeys(at as object).length > 1) return true;
  }
  return false;
}

const STORED_FILE = ['busBoyMimeType', 'buffer', 'originalName', 'size'];

/** Recognises a file of nestjs-form-data, which puts files into the body. */
const isStoredFile = (object: object): boolean => {
  const { originalName, size } = object as Readonly<Record<string, unknown>>;
  return typeof originalName === 'string' && typeof size === 'number';
};

/**
 * Returns the part of an uploaded file that counts: its bytes if they are in memory, else its
 * length.
 */
export const contentOf = (bytes: unknown, size: unknown): unknown =>
  bytes instanceof Uint8Array && bytes.length > 0
    ? createHash('sha256').update(bytes).digest('base64url')
    : (size ?? null);

const refused = (
  value: unknown,
  expected = 'made of JSON values, bytes, bigints, dates and objects that show their properties',
): Error =>
  new InvalidArgumentError(
    'options.fingerprint',
    `${expected} (on a route, it is made of the body unless @Idempotent({ fingerprint: (…) => … }) makes it of the method's arguments)`,
    value,
  );
