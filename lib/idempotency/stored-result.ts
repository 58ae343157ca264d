import { HttpException, Logger } from '@nestjs/common';
import { describe } from '../atomic-redis.errors.js';
import {
  IdempotencyRecordError,
  IdempotencyResultUnavailableError,
  isTombstoneReason,
  ReplayedError,
  type TombstoneReason,
} from './idempotency.errors.js';
import { jsonCodec, type ResultCodec } from './result-codec.js';

const logger = new Logger('IdempotencyService');

/**
 * Says how to read a result's bytes: a returned value; a thrown HttpException (`error`); another
 * thrown Error (`plain-error`); any other thrown value; a response as it went over the wire; one of
 * these with the way its message was acknowledged (`delivery`); or none at all. `unreadable` is
 * never stored: it stands for a result that cannot be decrypted.
 */
export type ResultKind =
  | 'value'
  | 'undefined'
  | 'error'
  | 'plain-error'
  | 'thrown'
  | 'thrown-undefined'
  | 'http'
  | 'delivery'
  | 'tombstone'
  | 'unreadable';

export interface StoredResult {
  readonly kind: ResultKind;
  /** Text stands for its UTF-8. */
  readonly bytes: string | Buffer;
  /** The reason why an `unreadable` result cannot be read. */
  readonly cause?: unknown;
}

export const tombstone = (reason: TombstoneReason): StoredResult => ({ kind: 'tombstone', bytes: reason });

/** Describes a result for the log. */
interface Description {
  /** Its name, or a function that makes it. */
  readonly operation?: string | (() => string) | undefined;
  /** True if a repeated call misses a result that cannot be kept. @default true */
  readonly isMissed?: boolean;
}

/**
 * Stores a returned value; a tombstone when the codec cannot carry it. Never throws.
 */
export function storedValue(
  value: unknown,
  codec: ResultCodec,
  maxBytes: number,
  described: Description = {},
): StoredResult {
  try {
    return limited(value === undefined ? nothing('undefined') : encoded('value', value, codec), maxBytes);
  } catch (error) {
    return notSerializable(error, described);
  }
}

/**
 * Stores a thrown value: status and response of an HttpException, name and message of any other
 * Error, the JSON value of anything else; a tombstone when these cannot be kept. Never throws.
 */
export function storedError(error: unknown, maxBytes: number): StoredResult {
  try {
    return limited(thrown(error), maxBytes);
  } catch (failure) {
    return notSerializable(failure, {});
  }
}

function thrown(error: unknown): StoredResult {
  if (error instanceof HttpException) return plain('error', [error.getStatus(), error.getResponse() ?? null]);
  if (error instanceof Error) {
    const { name, message }: Record<'name' | 'message', unknown> = error;
    return plain('plain-error', [String(name), String(message)]);
  }
  return error === undefined ? nothing('thrown-undefined') : encoded('thrown', error, jsonCodec);
}

/** Puts text in front of what is stored. */
export const headed = (head: string, bytes: string | Buffer): string | Buffer =>
  typeof bytes === 'string' ? head + bytes : Buffer.concat([Buffer.from(head), bytes]);

/** A result with whether the handler of its message acknowledged by hand. */
export const deliveryResult = ({ kind, bytes }: StoredResult, byHand: boolean): StoredResult => ({
  kind: 'delivery',
  bytes: headed(`${byHand ? BY_HAND : NOT_BY_HAND}${kind}|`, bytes),
});

const BY_HAND = 'a';
const NOT_BY_HAND = '-';
/** More than a head takes. */
const MAX_DELIVERY_HEAD = 32;

/** The two again; of any other result, how its message was acknowledged is not known. */
export function readDelivery(stored: StoredResult): { result: StoredResult; byHand: boolean | undefined } {
  if (stored.kind !== 'delivery') return { result: stored, byHand: undefined };
  const bytes = bytesOf(stored);
  const [head = ''] = bytes.toString('latin1', 0, MAX_DELIVERY_HEAD).split('|', 1);
  return {
    byHand: head.startsWith(BY_HAND),
    result: { kind: head.slice(1) as ResultKind, bytes: bytes.subarray(head.length + 1) },
  };
}

const nothing = (kind: ResultKind): StoredResult => ({ kind, bytes: '' });

function encoded(kind: ResultKind, value: unknown, codec: ResultCodec): StoredResult {
  const bytes = codec.encode(value);
  return { kind, bytes: typeof bytes === 'string' && bytes.isWellFormed() ? bytes : toBuffer(bytes) };
}

const plain = (kind: ResultKind, value: unknown): StoredResult => ({ kind, bytes: JSON.stringify(value) });

/**
 * @throws TypeError for anything but text and bytes, such as the promise of an asynchronous codec
 */
export function toBuffer(bytes: string | Uint8Array): Buffer {
  if (typeof bytes === 'string') return Buffer.from(bytes);
  // Copies them: the codec may change its bytes later.
  if (bytes instanceof Uint8Array) return Buffer.from(bytes);
  throw new TypeError(`it must become a string or bytes at once, not ${describe(bytes)}`);
}

/** Not a copy, where it is bytes already. */
export const bytesOf = ({ bytes }: StoredResult): Buffer =>
  typeof bytes === 'string' ? Buffer.from(bytes) : bytes;

/**
 * A value may throw when it is looked at, be nested too deep, or make a text too long; its run has
 * to be settled all the same.
 */
function notSerializable(error: unknown, { operation = '', isMissed = true }: Description): StoredResult {
  const name = typeof operation === 'function' ? operation() : operation;
  if (isMissed)
    logger.warn(
      `The result of ${name || 'an idempotent run'} cannot be kept, so repeated calls will get an error: ${String(error)}`,
    );
  return tombstone('not-serializable');
}

export function limited(result: StoredResult, maxBytes: number): StoredResult {
  const { bytes } = result;
  // Not counted where it surely is short enough: nearly always.
  if (bytes.length * MAX_BYTES_OF_UNIT <= maxBytes) return result;
  return Buffer.byteLength(bytes) > maxBytes ? tombstone('too-large') : result;
}

/** The most bytes of UTF-8 that one UTF-16 code unit comes to. */
const MAX_BYTES_OF_UNIT = 3;

/**
 * Gives a value back, or throws again what was thrown.
 *
 * @throws HttpException, ReplayedError, or the thrown value
 * @throws IdempotencyResultUnavailableError for a tombstone
 * @throws IdempotencyRecordError for bytes or a kind that this version did not write, and for a
 * response that was not called for over HTTP
 */
export function replayed(stored: StoredResult, codec: ResultCodec): unknown {
  const { kind, bytes, cause } = stored.kind === 'delivery' ? readDelivery(stored).result : stored;
  switch (kind) {
    case 'undefined':
      return undefined;
    case 'value':
      return decoded(codec, bytes);
    case 'error':
      throw httpException(decoded(jsonCodec, bytes));
    case 'plain-error':
      throw replayedError(decoded(jsonCodec, bytes));
    case 'thrown':
      throw decoded(jsonCodec, bytes);
    case 'thrown-undefined':
      throw undefined as unknown;
    case 'tombstone': {
      const reason = bytes.toString();
      throw isTombstoneReason(reason)
        ? new IdempotencyResultUnavailableError(reason)
        : new IdempotencyRecordError();
    }
    default:
      throw new IdempotencyRecordError(cause === undefined ? {} : { cause });
  }
}

function decoded(codec: ResultCodec, bytes: string | Buffer): unknown {
  try {
    if (codec === jsonCodec) return JSON.parse(bytes.toString()) as unknown;
    // A copy: the value may refer to it, and belongs to this caller alone.
    return codec.decode(toBuffer(bytes));
  } catch (error) {
    throw new IdempotencyRecordError({ cause: error });
  }
}

function httpException(stored: unknown): Error {
  const [status, response] = (Array.isArray(stored) ? stored : []) as [unknown, unknown];
  const isResponse = typeof response === 'string' || typeof response === 'object';
  if (!Number.isInteger(status) || !isResponse) return new IdempotencyRecordError();
  return new HttpException(response as string | object, status as number);
}

function replayedError(stored: unknown): Error {
  const [name, message] = (Array.isArray(stored) ? stored : []) as [unknown, unknown];
  if (typeof name !== 'string' || typeof message !== 'string') return new IdempotencyRecordError();
  return new ReplayedError(name, message);
}
