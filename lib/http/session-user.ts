import type { HttpRequest } from './http-request.js';
import { nameOfPrincipal } from './principal.js';

interface Session {
  readonly id?: unknown;
  readonly sessionId?: unknown;
  /** @fastify/secure-session: its fields are behind a proxy. */
  readonly data?: unknown;
  /** SuperTokens. */
  readonly getUserId?: unknown;
  readonly getTenantId?: unknown;
}

export const sessionOf = (request: HttpRequest): Session | undefined => {
  const session = request.session ?? request.raw?.session;
  return typeof session === 'object' && session !== null ? session : undefined;
};

/** The user that a session says it is of; undefined for one of a guest. */
export function userOfSession(request: HttpRequest): readonly string[] | undefined {
  const session = sessionOf(request);
  if (!session) return undefined;
  const { data, getUserId, getTenantId } = session;
  if (typeof getUserId === 'function') {
    const user = { userId: Reflect.apply(getUserId, session, []) as unknown };
    const tenantId =
      typeof getTenantId === 'function' && (Reflect.apply(getTenantId, session, []) as unknown);
    return nameOfPrincipal({ ...user, tenantId }, true);
  }
  const fields: unknown = typeof data === 'function' ? Reflect.apply(data, session, []) : session;
  return nameOfPrincipal(fields, true);
}
