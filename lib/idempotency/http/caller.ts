import { createHash } from 'node:crypto';
import { ConfigurationError, describe } from '../../atomic-redis.errors.js';
import type { HttpRequest } from './http-request.js';

/** What of a request tells who calls. */
export interface Caller {
  readonly headers: HttpRequest['headers'];
  readonly user?: unknown;
  readonly session?: unknown;
  readonly sessionID?: unknown;
}

const PRINCIPAL_IDS = ['id', 'sub', 'userId', 'uid', '_id', 'username', 'email'] as const;

/** What an id may be unique within only. */
const REALMS = [
  'iss',
  'issuer',
  'realm',
  'tenant',
  'tenantId',
  'tid',
  'org',
  'orgId',
  'organization',
  'organizationId',
  'account',
  'accountId',
  'workspace',
  'workspaceId',
] as const;

/**
 * The scope that `@Idempotent` gives a request by default, which says who calls: the authenticated principal (`request.user`) by its id and its tenant or
 * issuer, else the hash of the credential, else the session, else anonymous. One caller must never be given another's response, so a principal that is not
 * recognised is refused rather than taken for nobody. Cookies as such say nothing: they change for reasons of their own.
 *
 * @throws ConfigurationError when the request has a principal that cannot be told from others
 */
export function callerScope(request: Caller): string {
  const { user } = request;
  // Fastify applications declare `user` beforehand, as null or ''.
  if (user !== undefined && user !== null && user !== '' && user !== false)
    return JSON.stringify(['user', ...principal(user)]);
  const { authorization } = request.headers;
  if (authorization)
    return JSON.stringify(['credential', createHash('sha256').update(authorization).digest('hex')]);
  const session = sessionId(request);
  return session === undefined ? 'anonymous' : JSON.stringify(['session', session]);
}

function principal(user: unknown): unknown[] {
  const simple = simpleValue(user);
  if (simple) return simple;
  const fields = user as Record<string, unknown>;
  const id = typeof user === 'object' && firstOf(fields, PRINCIPAL_IDS);
  if (!id) {
    throw unrecognised(
      `request.user is ${describe(user)} and has none of ${PRINCIPAL_IDS.join(', ')} as a string or number`,
    );
  }
  const realms = REALMS.filter((name) => fields[name] !== undefined && fields[name] !== null).map((name) => {
    const value = fields[name];
    const realm = simpleValue(value) ?? firstOf(value as Record<string, unknown>, PRINCIPAL_IDS);
    if (!realm) throw unrecognised(`request.user.${name} is ${describe(value)}`);
    return [name, ...realm];
  });
  return [...id, ...realms];
}

function firstOf(object: Record<string, unknown>, names: readonly string[]): unknown[] | undefined {
  for (const name of names) {
    const value = simpleValue(object[name]);
    if (value) return [name, ...value];
  }
  return undefined;
}

/** A string or number with its type, or what JSON writes as one: the id objects of databases. */
function simpleValue(value: unknown): [type: string, value: string] | undefined {
  if (typeof value === 'bigint' || Number.isFinite(value) || (typeof value === 'string' && value !== ''))
    return [typeof value, String(value)];
  if (typeof value !== 'object' || value === null) return undefined;
  const { toJSON } = value as { toJSON?: unknown };
  const json: unknown = typeof toJSON === 'function' ? Reflect.apply(toJSON, value, []) : undefined;
  return typeof json === 'object' ? undefined : simpleValue(json);
}

/** Of a session that the client brought: middleware makes a new one for each request that has none. */
function sessionId({ session, sessionID, headers }: Caller): string | undefined {
  if (headers.cookie === undefined) return undefined;
  const { id, sessionId: fastifyId } = (typeof session === 'object' && session !== null ? session : {}) as {
    id?: unknown;
    sessionId?: unknown;
  };
  return [id, sessionID, fastifyId].find((one): one is string => typeof one === 'string' && one !== '');
}

const unrecognised = (found: string): ConfigurationError =>
  new ConfigurationError(
    `@Idempotent() cannot tell this caller from others: ${found}. Give it a scope from the method's arguments: ` +
      `@Idempotent({ scope: (…) => … })`,
  );
