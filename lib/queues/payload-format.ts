import { InvalidArgumentError } from '../atomic-redis.errors.js';
import { copyBytes } from '../scripting/copies.js';

/** How payloads become bytes and back. */
export interface PayloadFormat {
  /** What it returns is nobody else's. @throws InvalidArgumentError naming `path` */
  encode(path: string, payload: unknown): string | Buffer;
  /** @throws whatever says why the bytes cannot be read */
  decode(bytes: Buffer): unknown;
}

export const payloadFormats: Readonly<Record<'json' | 'bytes', PayloadFormat>> = {
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
