import { createHash } from 'node:crypto';

/**
 * What names a record: the hash of scope, operation and client key, each with its length in front, so that no two different triples run
 * into one. The raw values reach neither the keyspace nor a log.
 */
export function recordId(scope: string, operation: string, key: string): string {
  const hash = createHash('sha256');
  for (const part of [scope, operation, key]) hash.update(`${Buffer.byteLength(part)}:`).update(part);
  return hash.digest('hex');
}

/** The hash of a payload: equal for JSON that differs only in the order of its keys. */
export function fingerprintOf(payload: unknown): string {
  return createHash('sha256').update(canonical(payload)).digest('base64url');
}

function canonical(value: unknown): string {
  if (Buffer.isBuffer(value)) return `bytes:${value.toString('base64')}`;
  return JSON.stringify(value, sortKeys) ?? 'undefined';
}

function sortKeys(_: string, value: unknown): unknown {
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
