import { HttpException } from '@nestjs/common';
import {
  IdempotencyRecordError,
  IdempotencyResultUnavailableError,
  isTombstoneReason,
  ReplayedError,
  type TombstoneReason,
} from './idempotency.errors.js';

/**
 * How a result's bytes are to be read: a returned value, a thrown HttpException (`error`), another thrown Error (`plain-error`), anything else
 * that was thrown, a response as it went over the wire, or none at all.
 */
export type ResultKind =
  'value' | 'undefined' | 'error' | 'plain-error' | 'thrown' | 'thrown-undefined' | 'http' | 'tombstone';

export interface StoredResult {
  readonly kind: ResultKind;
  readonly bytes: Buffer;
}

export const tombstone = (reason: TombstoneReason): StoredResult => ({
  kind: 'tombstone',
  bytes: Buffer.from(reason),
});

/** Of a returned value; a tombstone when JSON would not give the same value back, or cannot be made of it at all. Never throws. */
export function storedValue(value: unknown, maxBytes: number): StoredResult {
  return orTombstone(maxBytes, () => ofValue(value, 'value', 'undefined'));
}

/**
 * Of anything thrown: status and response of an HttpException, name and message of any other Error, the JSON value of what is no Error; a
 * tombstone when these cannot be kept. Never throws.
 */
export function storedError(error: unknown, maxBytes: number): StoredResult {
  return orTombstone(maxBytes, () => {
    if (error instanceof HttpException) return json('error', [error.getStatus(), error.getResponse()]);
    if (error instanceof Error) {
      const { name, message }: Record<'name' | 'message', unknown> = error;
      return json('plain-error', [String(name), String(message)]);
    }
    return ofValue(error, 'thrown', 'thrown-undefined');
  });
}

function ofValue(value: unknown, kind: ResultKind, kindOfUndefined: ResultKind): StoredResult | undefined {
  if (value === undefined) return { kind: kindOfUndefined, bytes: Buffer.alloc(0) };
  return isJson(value, new Set()) ? json(kind, value) : undefined;
}

const json = (kind: ResultKind, value: unknown): StoredResult => ({
  kind,
  bytes: Buffer.from(JSON.stringify(value)),
});

/** A value may throw when it is looked at, be nested too deep, or make a text too long; its run has to be settled all the same. */
function orTombstone(maxBytes: number, make: () => StoredResult | undefined): StoredResult {
  try {
    const result = make();
    if (result) return limited(result, maxBytes);
  } catch {
    // As if JSON could not give it back.
  }
  return tombstone('not-serializable');
}

export function limited(result: StoredResult, maxBytes: number): StoredResult {
  return result.bytes.length > maxBytes ? tombstone('too-large') : result;
}

/**
 * Gives a value back, or throws again what was thrown.
 *
 * @throws HttpException, ReplayedError, or the thrown value
 * @throws IdempotencyResultUnavailableError for a tombstone
 * @throws IdempotencyRecordError for bytes or a kind that this version did not write, and for a response that was not called for over HTTP
 */
export function replayed({ kind, bytes }: StoredResult): unknown {
  switch (kind) {
    case 'undefined':
      return undefined;
    case 'value':
      return parsed(bytes);
    case 'error':
      throw httpException(parsed(bytes));
    case 'plain-error':
      throw replayedError(parsed(bytes));
    case 'thrown':
      throw parsed(bytes);
    case 'thrown-undefined':
      throw undefined as unknown;
    case 'tombstone': {
      const reason = bytes.toString();
      throw isTombstoneReason(reason)
        ? new IdempotencyResultUnavailableError(reason)
        : new IdempotencyRecordError();
    }
    default:
      throw new IdempotencyRecordError();
  }
}

function parsed(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    throw new IdempotencyRecordError();
  }
}

function httpException(stored: unknown): Error {
  const [status, response] = (Array.isArray(stored) ? stored : []) as [unknown, unknown];
  const isResponse = typeof response === 'string' || (typeof response === 'object' && response !== null);
  if (!Number.isInteger(status) || !isResponse) return new IdempotencyRecordError();
  return new HttpException(response, status as number);
}

function replayedError(stored: unknown): Error {
  const [name, message] = (Array.isArray(stored) ? stored : []) as [unknown, unknown];
  if (typeof name !== 'string' || typeof message !== 'string') return new IdempotencyRecordError();
  return new ReplayedError(name, message);
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
