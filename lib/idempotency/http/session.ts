import type { HttpRequest } from '../../http/http-request.js';
import { sessionOf } from '../../http/session-user.js';
import { SESSION_COOKIES } from './caller-headers.js';

/**
 * A session by what the client brought of it: middleware makes a new id for each request that has
 * none, or one that has expired.
 */
export function broughtSession(request: HttpRequest, cookieHeader: string): string | undefined {
  const cookies = cookiesOf(cookieHeader);
  const id = sessionIdsOf(request).find((one) => cookies.some(([, value]) => carries(value, one)));
  if (id !== undefined) return `session:${id}`;
  const { name } = (request.sessionOptions ?? request.raw?.sessionOptions ?? {}) as { name?: unknown };
  const kept = cookies.filter(([cookie]) => cookie === name || SESSION_COOKIES.has(plainCookie(cookie)));
  return kept.length > 0 ? JSON.stringify(kept.toSorted(byName)) : undefined;
}

function sessionIdsOf(request: HttpRequest): string[] {
  const { id, sessionId } = sessionOf(request) ?? {};
  const sessionID = request.sessionID ?? request.raw?.sessionID;
  return [id, sessionID, sessionId].filter((one): one is string => typeof one === 'string' && one !== '');
}

/** As it is, or with a signature behind it, before which express-session writes `s:`. */
function carries(cookie: string, id: string): boolean {
  const text = cookie.startsWith('s:') ? cookie.slice(2) : cookie;
  return text === id || text.startsWith(`${id}.`);
}

function cookiesOf(header: string): [name: string, value: string][] {
  return header.split(';').flatMap((pair) => {
    const at = pair.indexOf('=');
    return at < 0 ? [] : [[pair.slice(0, at).trim(), decoded(pair.slice(at + 1).trim())]];
  });
}

const plainCookie = (name: string): string =>
  name
    .toLowerCase()
    .replace(/^__(?:host|secure)-/, '')
    .replace(/\.\d+$/, '');

function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    // Not encoded.
    return value;
  }
}

const byName = ([one]: [string, string], [other]: [string, string]): number =>
  one < other ? -1 : one > other ? 1 : 0;
