import { createHash } from 'node:crypto';
import { IdempotencyKeyInvalidError } from '../idempotency.errors.js';
import type { HttpRequest } from './http-exchange.js';

const MAX_KEY_LENGTH = 255;

/**
 * The key of a request's header, as sent or as a structured-field string (`"abc"` is `abc`); undefined when there is no such header.
 * https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
 *
 * @throws IdempotencyKeyInvalidError when it is empty, too long, sent twice, or holds other than printable ASCII
 */
export function keyFromHeader(request: HttpRequest, header: string): string | undefined {
  const values = (request.raw ?? request).headersDistinct?.[header.toLowerCase()];
  const [value] = values ?? [];
  if (!values || value === undefined) return undefined;
  if (values.length > 1)
    throw new IdempotencyKeyInvalidError('sent once', `${values.length} ${header} headers`);
  const quoted = /^"((?:[^"\\]|\\["\\])*)"$/.exec(value.trim());
  const key = quoted ? quoted[1]!.replace(/\\(["\\])/g, '$1') : value.trim();
  if (
    !/^[\x21-\x7e]+$/.test(key) ||
    key.includes(',') ||
    (!quoted && key.includes('"')) ||
    key.length > MAX_KEY_LENGTH
  ) {
    throw new IdempotencyKeyInvalidError(
      `1 to ${MAX_KEY_LENGTH} printable ASCII characters without spaces or commas`,
      value,
    );
  }
  return key;
}

/** What tells one payload from another. The parsed body stands for the bytes: the order of its keys and white space do not count. */
export function payloadOf(request: HttpRequest): unknown {
  return [request.method, request.originalUrl ?? request.url, request.body ?? null];
}

const PRINCIPAL_IDS = ['id', 'sub', 'userId', 'uid', '_id', 'username', 'email'] as const;

/**
 * Who calls: the authenticated principal, else the credential's hash, else anonymous. One caller must never be given another's response, so
 * what is not recognised is told apart rather than thrown together.
 */
export function callerOf(request: HttpRequest): string {
  const user = request.user;
  if (typeof user === 'string' || typeof user === 'number') return `user:${user}`;
  if (typeof user === 'object' && user !== null) {
    for (const name of PRINCIPAL_IDS) {
      const id = (user as Record<string, unknown>)[name];
      if (typeof id === 'string' || typeof id === 'number' || typeof id === 'bigint')
        return `user:${name}:${id}`;
    }
  }
  const credential = request.headers.authorization ?? request.headers.cookie;
  return credential ? `credential:${createHash('sha256').update(credential).digest('hex')}` : 'anonymous';
}
