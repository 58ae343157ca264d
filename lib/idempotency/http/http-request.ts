import type { IncomingMessage } from 'node:http';
import { IdempotencyKeyInvalidError } from '../idempotency.errors.js';

/** The request's properties that Express, Fastify and common middleware set. */
export interface HttpRequest {
  readonly method: string;
  readonly originalUrl?: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body?: unknown;
  /** The principal, as authentication sets it. */
  readonly user?: unknown;
  readonly auth?: unknown;
  readonly oidc?: { readonly user?: unknown } | null;
  readonly session?: unknown;
  readonly sessionID?: unknown;
  /** Set by cookie-session: the name of its cookie. */
  readonly sessionOptions?: unknown;
  /** The tenant, as middleware puts it here. */
  readonly tenant?: unknown;
  readonly tenantId?: unknown;
  readonly organization?: unknown;
  readonly organizationId?: unknown;
  readonly workspace?: unknown;
  readonly workspaceId?: unknown;
  /** The event of API Gateway, as adapters for AWS Lambda put it here. */
  readonly requestContext?: GatewayContext;
  readonly apiGateway?: { readonly event?: { readonly requestContext?: GatewayContext } };
  readonly awsLambda?: { readonly event?: { readonly requestContext?: GatewayContext } };
  /** Uploads, as multer and middleware like it put them here. */
  readonly file?: unknown;
  readonly files?: unknown;
  /** Node's own request behind Fastify's. */
  readonly raw?: IncomingMessage & Partial<Omit<HttpRequest, keyof IncomingMessage | 'raw'>>;
  /** Empty or missing where an adapter has made the request. */
  readonly rawHeaders?: IncomingMessage['rawHeaders'];
  readonly socket?: object;
}

/** The context of a request behind API Gateway. */
export interface GatewayContext {
  readonly authorizer?: unknown;
}

/**
 * A key as it may be sent: as it is, or as a structured-field string (`"abc"` is `abc`).
 * https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
 */
export const KEY_PATTERN = /^(?:[!#-+\--~]{1,255}|"(?:[!#-+\--[\]-~]|\\["\\]){1,255}")$/;

/**
 * The key of a request's header, as the application sees it; undefined when there is no such header.
 *
 * @throws IdempotencyKeyInvalidError when it is empty, too long, sent twice, or holds other than printable ASCII
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
