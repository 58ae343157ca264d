import * as check from '../atomic-redis.validation.js';
import { InvalidArgumentError } from '../atomic-redis.errors.js';
import { encodeWire, NEVER_REPLAYED } from './http/wire-response.js';
import type { StoredResult } from './stored-result.js';

/** A response that a route's calls get in place of the one that its run did not come to. */
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
  if (typeof value !== 'object' || value === null) throw new InvalidArgumentError(path, 'an object', value);
  for (const [name, text] of Object.entries(value)) {
    if (NEVER_REPLAYED.has(name.toLowerCase()))
      throw new InvalidArgumentError(path, 'without headers that belong to one exchange', name);
    check.nonEmptyString(`${path}.${name}`, text);
  }
}

export const checkSettledResponse = check.options(
  {
    status: check.integer(200, 599),
    headers: checkHeaders,
    body: () => undefined,
  } satisfies Record<keyof SettledResponse, check.Check>,
  'status',
);

/** @throws TypeError for a body that is no JSON value */
export function storedResponse({ status, headers = {}, body }: SettledResponse): StoredResult {
  const isRaw = body === undefined || typeof body === 'string' || body instanceof Uint8Array;
  const lowerCased = Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]),
  );
  const all = isRaw ? lowerCased : { 'content-type': 'application/json; charset=utf-8', ...lowerCased };
  const bytes = isRaw ? Buffer.from(body ?? '') : Buffer.from(JSON.stringify(body));
  return { kind: 'http', bytes: encodeWire({ status, headers: all, body: bytes }) };
}
