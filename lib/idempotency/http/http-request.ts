import type { HttpRequest } from '../../http/http-request.js';
import { IdempotencyKeyInvalidError } from '../idempotency.errors.js';

/**
 * A key as it may be sent: as it is, or as a structured-field string (`"abc"` is `abc`).
 * https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
 */
export const KEY_PATTERN = /^(?:[!#-+\--~]{1,255}|"(?:[!#-+\--[\]-~]|\\["\\]){1,255}")$/;

/**
 * The key of a request's header, as the application sees it; undefined when there is no such
 * header.
 *
 * @throws IdempotencyKeyInvalidError when it is empty, too long, sent twice, or holds other than
 * printable ASCII
 */
export function keyFromHeader(request: HttpRequest, header: string): string | undefined {
  const lowerCaseName = header.toLowerCase();
  const given = headerOf(request.headers, lowerCaseName);
  if (given === undefined) return undefined;
  const count = Array.isArray(given) ? given.length : timesSent(lowerCaseName, request);
  if (count > 1) throw new IdempotencyKeyInvalidError('sent once', `${count} ${header} headers`);
  const value = String(given);
  const sent = value.trim();
  if (!KEY_PATTERN.test(sent)) {
    throw new IdempotencyKeyInvalidError(
      '1 to 255 printable ASCII characters without spaces or commas',
      value,
    );
  }
  return sent.startsWith('"') ? sent.slice(1, -1).replace(/\\(["\\])/g, '$1') : sent;
}

/** Node writes names in lower case; what adapters and tests make need not. */
function headerOf(headers: HttpRequest['headers'], lowerCaseName: string): string | string[] | undefined {
  const value = headers[lowerCaseName];
  if (value !== undefined) return value;
  const { get } = headers as { get?: unknown };
  if (typeof get === 'function')
    return (Reflect.apply(get, headers, [lowerCaseName]) as string | null) ?? undefined;
  for (const name in headers) {
    if (name.length === lowerCaseName.length && name.toLowerCase() === lowerCaseName) return headers[name];
  }
  return undefined;
}

/**
 * Counts how often a header was sent, if the platform keeps raw headers. `headersDistinct` would
 * make an object of all of them.
 */
function timesSent(lowerCaseName: string, request: HttpRequest): number {
  const { rawHeaders } = request.raw ?? request;
  if (!Array.isArray(rawHeaders)) return 1;
  let times = 0;
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!;
    if (name.length === lowerCaseName.length && name.toLowerCase() === lowerCaseName) times++;
  }
  return times;
}

/** True if the method asks for no change, so that the request may be repeated as it is. */
export const isSafe = ({ method }: HttpRequest): boolean => ['GET', 'HEAD', 'OPTIONS'].includes(method);
