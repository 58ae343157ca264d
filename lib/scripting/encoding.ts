import { TextDecoder } from 'node:util';
import { InvalidArgumentError, InvalidUtf8Error, type Outcome } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';

/** Bytes as users give them. A string goes over the wire as UTF-8. @inline */
export type BinaryValue = string | Buffer;

/** Form of values that come back: `utf8` as strings, `buffer` as Buffers. */
export type Encoding = 'utf8' | 'buffer';

/** A value in its `Encoding`. */
export type Decoded<E extends Encoding> = E extends 'buffer' ? Buffer : string;

/** Options of every call that returns a key's value. */
export interface EncodingOptions<E extends Encoding = Encoding> {
  /**
   * Form of values that come back: `utf8` as strings, where bytes that are not UTF-8 are an
   * `InvalidUtf8Error`; `buffer` as Buffers. @default 'utf8'
   */
  encoding?: E;
}

export const encodingOptionChecks = {
  encoding: check.oneOf('utf8', 'buffer'),
} satisfies Record<keyof EncodingOptions, check.Check>;

// Strict, and a byte order mark is kept.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const textOf = (bytes: Buffer): string | undefined => {
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
};

/**
 * Converts a value from Redis to the caller's encoding.
 * @throws InvalidUtf8Error if it is not UTF-8, and the encoding is `utf8`
 */
export function decoded<E extends Encoding>(
  bytes: Buffer,
  { encoding = 'utf8' as E }: EncodingOptions<E>,
  { key, outcome }: { key: string; outcome: Outcome },
): Decoded<E> {
  const value = encoding === 'buffer' ? bytes : textOf(bytes);
  if (value === undefined) throw new InvalidUtf8Error(key, bytes, outcome);
  return value as Decoded<E>;
}

/**
 * Converts a value that the caller gave to the encoding in which the call returns it.
 * @throws InvalidArgumentError if it is not UTF-8, and the encoding is `utf8`
 */
export function asReturned<E extends Encoding>(
  path: string,
  given: BinaryValue,
  { encoding = 'utf8' as E }: EncodingOptions<E>,
): Decoded<E> {
  let value: BinaryValue | undefined = given;
  if (encoding === 'buffer') value = Buffer.from(given as string);
  else if (typeof given !== 'string') value = textOf(given);
  if (value === undefined)
    throw new InvalidArgumentError(path, `UTF-8 text, unless options.encoding is "buffer"`, given);
  return value as Decoded<E>;
}
