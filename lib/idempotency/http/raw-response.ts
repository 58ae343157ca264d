import type { ServerResponse } from 'node:http';
import { describe } from '../../atomic-redis.errors.js';

/**
 * The arguments of `write` and `end` of a response, whose overloads leave out any of the three.
 *
 * @throws TypeError for a chunk that Node.js refuses
 */
export function parseWrite(
  name: 'write' | 'end',
  args: unknown[],
): { chunk?: Buffer; callback?: (error?: Error) => void } {
  const callback = args.find((arg) => typeof arg === 'function') as (() => void) | undefined;
  const [chunk, encoding] = args;
  if (typeof chunk === 'string') {
    return {
      chunk: Buffer.from(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8'),
      callback,
    };
  }
  if (chunk instanceof Uint8Array)
    return { chunk: Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength), callback };
  if (name === 'end' && (!chunk || chunk === callback)) return { callback };
  throw chunkError(chunk);
}

function chunkError(chunk: unknown): TypeError {
  const [code, message] =
    chunk === null
      ? ['ERR_STREAM_NULL_VALUES', 'May not write null values to stream']
      : [
          'ERR_INVALID_ARG_TYPE',
          `The "chunk" argument must be of type string or an instance of Buffer or Uint8Array. Received ${describe(chunk)}`,
        ];
  return Object.assign(new TypeError(message), { code });
}

/** Headers of an array as pairs. */
export function pairsOf(headers: unknown[]): [string, string][] {
  if (Array.isArray(headers[0])) return headers as [string, string][];
  const pairs: [string, string][] = [];
  for (let i = 0; i + 1 < headers.length; i += 2)
    pairs.push([headers[i] as string, headers[i + 1] as string]);
  return pairs;
}

/** The error that Node.js throws where a header is set too late, by its version of HTTP. */
export function headersSentError(isHttp2: boolean, verb: string): Error {
  const [code, message] = isHttp2
    ? ['ERR_HTTP2_HEADERS_SENT', 'Response has already been initiated.']
    : ['ERR_HTTP_HEADERS_SENT', `Cannot ${verb} headers after they are sent to the client`];
  return Object.assign(new Error(message), { code });
}

/**
 * Refuses a write after the end. Node.js would emit an error as well, which ends a process that
 * does not listen.
 */
export function refuseWrite(callback: ((error: Error) => void) | undefined): false {
  if (callback) process.nextTick(callback, writeAfterEndError());
  return false;
}

const writeAfterEndError = (): Error =>
  Object.assign(new Error('write after end'), { code: 'ERR_STREAM_WRITE_AFTER_END' });

/** Returns whether a response has begun or is over, by whomever. */
export const isBegun = (response: ServerResponse): boolean => response.headersSent || response.writableEnded;
