import { hash } from 'node:crypto';
import { InvalidArgumentError } from '../atomic-redis.errors.js';

/**
 * The hash of a payload: equal for JSON that differs only in the order of its keys. A Date counts as its ISO string, `toJSON` as what it
 * returns, a property that is undefined as absent; bytes and bigints are told from every text.
 *
 * @throws InvalidArgumentError naming `options.fingerprint` for what JSON would drop or turn into something else (a Map, a Set, a class
 * instance, a function, NaN, a cycle): two payloads that differ in it would pass for the same
 */
export function fingerprintOf(payload: unknown): string {
  let text: string;
  try {
    text = canonical(payload, []);
  } catch (error) {
    // Of the recursion below.
    throw error instanceof RangeError ? refused(payload, 'less deeply nested') : error;
  }
  return hash('sha256', text, 'base64url');
}

/** @param above the objects around `value`: to meet one of them again is a cycle */
function canonical(value: unknown, above: object[]): string {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return JSON.stringify(value);
  if (typeof value === 'number' && Number.isFinite(value)) return JSON.stringify(value);
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value !== 'object') throw refused(value);
  if (value instanceof Uint8Array) return `bytes:${Buffer.from(value).toString('base64')}`;
  if (above.includes(value)) throw refused(value, 'free of cycles');
  above.push(value);
  const text = canonicalObject(value, (child) => canonical(child, above));
  above.pop();
  return text;
}

function canonicalObject(value: object, child: (value: unknown) => string): string {
  if (Array.isArray(value)) return `[${Array.from(value, child).join()}]`;
  if (value instanceof Date && Number.isNaN(value.getTime())) throw refused(value, 'free of invalid dates');
  if ('toJSON' in value && typeof value.toJSON === 'function') return child(value.toJSON());
  // Plain, whichever realm made it: its prototype, if any, is the root of all.
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) throw refused(value);
  const fields = value as Readonly<Record<string, unknown>>;
  let text = '';
  for (const name of Object.keys(fields).toSorted()) {
    const item = fields[name];
    if (item !== undefined) text += `${text && ','}${JSON.stringify(name)}:${child(item)}`;
  }
  return `{${text}}`;
}

const refused = (value: unknown, expected = 'made of JSON values, bytes, bigints and dates'): Error =>
  new InvalidArgumentError(
    'options.fingerprint',
    `${expected} (on a route, it is made of the body unless @Idempotent({ fingerprint: (…) => … }) makes it of the method's arguments)`,
    value,
  );
