import { isUtf8 } from 'node:buffer';
import { promisify } from 'node:util';
import * as zlib from 'node:zlib';
import { IdempotencyRecordError } from '../idempotency.errors.js';
import { headed } from '../stored-result.js';

/** A response as it went over the wire, less the headers that belong to one exchange only. */
export interface WireResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly body: Buffer;
}

/**
 * The headers that every replay repeats. Cookies, dates, request ids and CORS headers belong to the
 * exchange at hand and are never kept.
 */
export const REPLAYED_HEADERS: readonly string[] = (
  'content-type content-language content-disposition content-encoding content-location ' +
  'cache-control etag last-modified link location retry-after vary'
).split(' ');

/**
 * Headers that no application may have replayed: they frame one message, or belong to one caller or
 * exchange.
 */
export const NEVER_REPLAYED: ReadonlySet<string> = new Set(
  (
    'connection content-length date keep-alive proxy-authenticate set-cookie te trailer ' +
    'transfer-encoding upgrade x-correlation-id x-request-id'
  ).split(' '),
);

/**
 * Layout: length of the head in decimal, a newline, the head as JSON, the body. Text, where the body
 * is: on its way to Redis it costs less than bytes.
 */
export function encodeWire({ status, headers, body }: WireResponse): string | Buffer {
  const head = JSON.stringify([status, headers]);
  return headed(`${Buffer.byteLength(head)}\n${head}`, isUtf8(body) ? body.toString() : body);
}

/** @throws IdempotencyRecordError when the bytes are nothing that {@link encodeWire} makes */
export function decodeWire(bytes: Buffer): WireResponse {
  const newline = bytes.indexOf(10);
  const bodyAt = newline + 1 + Number(bytes.subarray(0, newline).toString());
  try {
    const [status, headers] = JSON.parse(bytes.subarray(newline + 1, bodyAt).toString()) as [
      number,
      WireResponse['headers'],
    ];
    return { status, headers, body: bytes.subarray(bodyAt) };
  } catch {
    throw new IdempotencyRecordError();
  }
}

const DECODERS = new Map<string, (bytes: Buffer) => Promise<Buffer>>([
  ['gzip', promisify(zlib.gunzip)],
  ['x-gzip', promisify(zlib.gunzip)],
  ['deflate', promisify(zlib.inflate)],
  ['br', promisify(zlib.brotliDecompress)],
]);
// From Node.js 22.15 on.
const { zstdDecompress } = zlib as { zstdDecompress?: typeof zlib.gunzip };
if (zstdDecompress) DECODERS.set('zstd', promisify(zstdDecompress));

/**
 * True if every client can get the recorded body: it has no coding, or one that can be undone here.
 */
export const isDecodable = (response: WireResponse): boolean => {
  const coding = codingOf(response);
  return coding === undefined || response.body.length === 0 || DECODERS.has(coding);
};

/**
 * Makes a recorded response fit a client: a body in a coding that the client does not accept is
 * decoded. Its ETag becomes a weak one, since it named the encoded bytes.
 *
 * @throws IdempotencyRecordError where the body is not what its coding says
 */
export function acceptable(
  response: WireResponse,
  acceptEncoding: string | string[] | undefined,
): WireResponse | Promise<WireResponse> {
  const coding = codingOf(response);
  return coding === undefined || accepts(String(acceptEncoding ?? ''), coding)
    ? response
    : decoded(response, coding);
}

function decoded(response: WireResponse, coding: string): WireResponse | Promise<WireResponse> {
  const { 'content-encoding': _, etag, ...rest } = response.headers;
  const weak = typeof etag === 'string' && !etag.startsWith('W/') ? `W/${etag}` : etag;
  const plain = { ...response, headers: weak === undefined ? rest : { ...rest, etag: weak } };
  // A 204 has no body, whatever its headers say.
  return response.body.length === 0 ? plain : withDecodedBody(plain, coding);
}

async function withDecodedBody(response: WireResponse, coding: string): Promise<WireResponse> {
  try {
    return { ...response, body: await DECODERS.get(coding)!(response.body) };
  } catch (error) {
    throw new IdempotencyRecordError({ cause: error });
  }
}

function codingOf({ headers }: WireResponse): string | undefined {
  const coding = String(headers['content-encoding'] ?? '')
    .trim()
    .toLowerCase();
  return coding === '' || coding === 'identity' ? undefined : coding;
}

/** By RFC 9110, section 12.5.3: a coding that is named decides, else `*`. */
function accepts(acceptEncoding: string, coding: string): boolean {
  let accepted = false;
  for (const part of acceptEncoding.toLowerCase().split(',')) {
    const [name = '', ...parameters] = part.split(';').map((text) => text.trim());
    if (name !== coding && name !== '*') continue;
    const isRefused = parameters.some((parameter) => /^q=0(?:\.0*)?$/.test(parameter));
    if (name === coding) return !isRefused;
    accepted = !isRefused;
  }
  return accepted;
}
