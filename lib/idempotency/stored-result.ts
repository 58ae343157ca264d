import { HttpException } from '@nestjs/common';
import {
  IdempotencyRecordError,
  IdempotencyResultUnavailableError,
  type TombstoneReason,
} from './idempotency.errors.js';

/** How a result's bytes are to be read: a value, a thrown HttpException, a response as it went over the wire, or none at all. */
export type ResultKind = 'value' | 'undefined' | 'error' | 'http' | 'tombstone';

export interface StoredResult {
  readonly kind: ResultKind;
  readonly bytes: Buffer;
}

export const tombstone = (reason: TombstoneReason): StoredResult => ({
  kind: 'tombstone',
  bytes: Buffer.from(reason),
});

/** Of a returned value; a tombstone when JSON would not give the same value back. */
export function storedValue(value: unknown, maxBytes: number): StoredResult {
  if (value === undefined) return { kind: 'undefined', bytes: Buffer.alloc(0) };
  if (!isJson(value, new Set())) return tombstone('not-serializable');
  return limited({ kind: 'value', bytes: Buffer.from(JSON.stringify(value)) }, maxBytes);
}

/** Of a thrown HttpException. */
export function storedError(error: HttpException, maxBytes: number): StoredResult {
  return limited(
    { kind: 'error', bytes: Buffer.from(JSON.stringify([error.getStatus(), error.getResponse()])) },
    maxBytes,
  );
}

export function limited(result: StoredResult, maxBytes: number): StoredResult {
  return result.bytes.length > maxBytes ? tombstone('too-large') : result;
}

/**
 * Gives a value back, or throws the error again.
 *
 * @throws IdempotencyResultUnavailableError for a tombstone, and for a response that was not called for over HTTP
 */
export function replayed({ kind, bytes }: StoredResult): unknown {
  switch (kind) {
    case 'undefined':
      return undefined;
    case 'value':
      return JSON.parse(bytes.toString());
    case 'error': {
      const [status, response] = JSON.parse(bytes.toString()) as [number, string | Record<string, unknown>];
      throw new HttpException(response, status);
    }
    case 'tombstone':
      throw new IdempotencyResultUnavailableError(bytes.toString() as TombstoneReason);
    default:
      throw new IdempotencyRecordError();
  }
}

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
