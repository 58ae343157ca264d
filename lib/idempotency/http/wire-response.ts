import { IdempotencyRecordError } from '../idempotency.errors.js';

/** A response as it went over the wire, less what belongs to one exchange only. */
export interface WireResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly body: Buffer;
}

/** What a replay repeats. Cookies, dates, request ids and CORS headers belong to the exchange at hand and are never kept. */
export const REPLAYED_HEADERS = [
  'content-type',
  'content-language',
  'content-disposition',
  'content-encoding',
  'cache-control',
  'etag',
  'last-modified',
  'link',
  'location',
  'retry-after',
] as const;

/** Layout: length of the head in decimal, a newline, the head as JSON, the body. */
export function encodeWire({ status, headers, body }: WireResponse): Buffer {
  const head = JSON.stringify([status, headers]);
  return Buffer.concat([Buffer.from(`${Buffer.byteLength(head)}\n${head}`), body]);
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
