import { InvalidArgumentError } from '../atomic-redis.errors.js';
import { copyBytes } from '../scripting/copies.js';
import { InvalidPayloadError } from './queue.errors.js';
import type { SchemaResult, StandardSchema } from './standard-schema.js';

/** Turns payloads into bytes and back. */
export interface PayloadFormat {
  /** Returns bytes of the queue's own. @throws InvalidArgumentError naming `path` */
  encode(path: string, payload: unknown): string | Buffer;
  /**
   * Checks what `encode` returned. Returns undefined if it fits, or a promise if the schema is
   * asynchronous. Absent without a schema.
   * @throws InvalidPayloadError, also by the promise
   */
  readonly check?: (encoded: string | Buffer) => Promise<unknown> | undefined;
  /**
   * Returns the payload, or a promise of it where the schema takes its time.
   * @throws whatever says why the bytes cannot be read, also by the promise
   */
  decode(bytes: Buffer): unknown;
}

const payloadFormats: Readonly<Record<'json' | 'bytes', PayloadFormat>> = {
  json: {
    encode(path, payload) {
      let text: string | undefined;
      try {
        text = JSON.stringify(payload) as string | undefined;
      } catch (cause) {
        // A cycle, a bigint, or what a `toJSON` threw.
        throw new InvalidArgumentError(path, 'a JSON value', payload, { cause });
      }
      if (text === undefined) throw new InvalidArgumentError(path, 'a JSON value', payload);
      return text;
    },
    decode: (bytes) => JSON.parse(bytes.toString()) as unknown,
  },
  bytes: {
    encode(path, payload) {
      if (!Buffer.isBuffer(payload)) throw new InvalidArgumentError(path, 'a Buffer', payload);
      return copyBytes(payload);
    },
    decode: (bytes) => bytes,
  },
};

/**
 * The format of a queue's payloads. With a schema, a push is checked by what a take will read: a
 * payload that JSON changes, such as a Date, is refused where it is pushed, and not where it is
 * taken. What is sent is the payload as it was given; the schema's own output is made at the take.
 */
export function payloadFormat(
  queue: string,
  format: 'json' | 'bytes',
  schema: StandardSchema | undefined,
): PayloadFormat {
  const plain = payloadFormats[format];
  if (!schema) return plain;
  const validate = (value: unknown): unknown => {
    const result = schema['~standard'].validate(value);
    return result instanceof Promise ? result.then((late) => outputOf(queue, late)) : outputOf(queue, result);
  };
  return {
    encode: (path, payload) => plain.encode(path, payload),
    check: (encoded) => {
      const checked = validate(typeof encoded === 'string' ? JSON.parse(encoded) : encoded);
      return checked instanceof Promise ? checked : undefined;
    },
    decode: (bytes) => validate(plain.decode(bytes)),
  };
}

function outputOf(queue: string, result: SchemaResult<unknown>): unknown {
  if (result.issues) throw new InvalidPayloadError(queue, result.issues);
  return result.value;
}
