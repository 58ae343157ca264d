import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { IdempotencyKeyInvalidError } from '../idempotency.errors.js';

/** What Express and Fastify, and what is common on them, put on a request. */
export interface HttpRequest {
  readonly method: string;
  readonly originalUrl?: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body?: unknown;
  readonly user?: unknown;
  readonly session?: unknown;
  readonly sessionID?: unknown;
  /** Uploads, as multer puts them here. */
  readonly file?: unknown;
  readonly files?: unknown;
  /** Node's own request behind Fastify's. */
  readonly raw?: IncomingMessage;
  readonly rawHeaders: IncomingMessage['rawHeaders'];
}

/**
 * A key as it may be sent: as it is, or as a structured-field string (`"abc"` is `abc`).
 * https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
 */
export const KEY_PATTERN = /^(?:[!#-+\--~]{1,255}|"(?:[!#-+\--[\]-~]|\\["\\]){1,255}")$/;

/**
 * The key of a request's header; undefined when there is no such header.
 *
 * @throws IdempotencyKeyInvalidError when it is empty, too long, sent twice, or holds other than printable ASCII
 */
export function keyFromHeader(request: HttpRequest, header: string): string | undefined {
  const values = valuesOf(header.toLowerCase(), (request.raw ?? request).rawHeaders);
  const [value] = values;
  if (value === undefined) return undefined;
  if (values.length > 1)
    throw new IdempotencyKeyInvalidError('sent once', `${values.length} ${header} headers`);
  const sent = value.trim();
  if (!KEY_PATTERN.test(sent)) {
    throw new IdempotencyKeyInvalidError(
      '1 to 255 printable ASCII characters without spaces or commas',
      value,
    );
  }
  return sent.startsWith('"') ? sent.slice(1, -1).replace(/\\(["\\])/g, '$1') : sent;
}

/** Of a header, each time it was sent: what `headersDistinct` says, which first makes an object of all headers. */
function valuesOf(lowerCaseName: string, rawHeaders: readonly string[]): string[] {
  const values: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!;
    if (name.length === lowerCaseName.length && name.toLowerCase() === lowerCaseName)
      values.push(rawHeaders[i + 1]!);
  }
  return values;
}

/** Whether the method asks for nothing to be changed, so that the request may be repeated as it is. */
export const isSafe = ({ method }: HttpRequest): boolean => ['GET', 'HEAD', 'OPTIONS'].includes(method);

/** What tells one payload from another. The parsed body stands for the bytes: the order of its keys and white space do not count. */
export function payloadOf(request: HttpRequest): unknown {
  const files = filesOf(request);
  const payload = [request.method, request.originalUrl ?? request.url, request.body ?? null];
  return files.length > 0 ? [...payload, files] : payload;
}

interface UploadedFile {
  readonly fieldname?: unknown;
  readonly originalname?: unknown;
  readonly size?: unknown;
  readonly buffer?: unknown;
}

/** What was uploaded: its content where it is in memory, else its size. Multer gives one file, a list, or lists by field name. */
function filesOf({ file, files }: HttpRequest): unknown[] {
  // Fastify's plugin has functions here.
  const uploaded: unknown[] = typeof file === 'object' && file !== null ? [file] : [];
  if (typeof files === 'object' && files !== null) uploaded.push(...Object.values(files).flat());
  return uploaded.map((one) => {
    const { fieldname, originalname, size, buffer } = (one ?? {}) as UploadedFile;
    const content =
      buffer instanceof Uint8Array ? createHash('sha256').update(buffer).digest('base64url') : size;
    return [fieldname ?? null, originalname ?? null, content ?? null];
  });
}
