import { validateHeaderName, validateHeaderValue } from 'node:http';
import * as check from '../atomic-redis.validation.js';
import { InvalidArgumentError } from '../atomic-redis.errors.js';
import { encodeWire, NEVER_REPLAYED, type WireResponse } from './http/wire-response.js';
import type { StoredResult } from './stored-result.js';

/**
 * A response that a route's calls get in place of the one that its run did not come to. Within
 * `maxResultBytes`, headers included.
 */
export interface SettledResponse {
  /** From 200 to 599. */
  status: number;
  /**
   * `content-type` is `application/json` where `body` is neither text nor bytes. Headers of one
   * message or caller are refused.
   * @default {}
   */
  headers?: Readonly<Record<string, string>>;
  /** Text, bytes, or a JSON value. Default: none. */
  body?: unknown;
}

function checkHeaders(path: string, value: unknown): void {
  // A Map or a Headers object has its fields elsewhere.
  if (typeof value !== 'object' || value === null || Symbol.iterator in value)
    throw new InvalidArgumentError(path, 'an object', value);
  for (const [name, text] of Object.entries(value)) {
    if (NEVER_REPLAYED.has(name.toLowerCase()))
      throw new InvalidArgumentError(path, 'without headers that belong to one exchange', name);
    check.nonEmptyString(`${path}.${name}`, text);
    try {
      validateHeaderName(name);
      validateHeaderValue(name, text as string);
    } catch {
      throw new InvalidArgumentError(`${path}.${name}`, 'a header that HTTP can carry', text);
    }
  }
}

function checkBody(path: string, value: unknown): void {
  try {
    bytesOfBody(value);
  } catch {
    throw new InvalidArgumentError(path, 'text, bytes or a JSON value', value);
  }
}

export const checkSettledResponse = check.options(
  {
    status: check.integer(200, 599),
    headers: checkHeaders,
    body: checkBody,
  } satisfies Record<keyof SettledResponse, check.Check>,
  'status',
);

const isRaw = (body: unknown): body is string | Uint8Array | undefined =>
  body === undefined || typeof body === 'string' || body instanceof Uint8Array;

const bytesOfBody = (body: unknown): Buffer => Buffer.from(isRaw(body) ? (body ?? '') : JSON.stringify(body));

/** A response that {@link checkSettledResponse} has accepted, as it goes over the wire. */
export function wireOf({ status, headers = {}, body }: SettledResponse): WireResponse {
  const lowerCased = Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]),
  );
  const all = isRaw(body) ? lowerCased : { 'content-type': 'application/json; charset=utf-8', ...lowerCased };
  return { status, headers: all, body: bytesOfBody(body) };
}

export const storedResponse = (response: SettledResponse): StoredResult => ({
  kind: 'http',
  bytes: encodeWire(wireOf(response)),
});
