import { hash } from 'node:crypto';
import { attachedName } from '../../http/attached-name.js';
import type { HttpRequest } from '../../http/http-request.js';
import { realmOf } from '../../http/principal.js';
import { CALLER_HEADERS, forwardedHost, hostName, type CallerHeader } from './caller-headers.js';
import { certificateOf, credentialOf, isJwt, keyOfSignature } from './credentials.js';
import { broughtSession } from './session.js';

/** The parts of a request that tell its caller. A request that you make up needs only `headers`. @inline */
export type CallerRequest = Pick<HttpRequest, 'headers'> & Partial<HttpRequest>;

/** The caller: its name, and the evidence that a repeated call must share with the first one. */
export interface Caller {
  readonly scope: string;
  readonly evidence: string;
  /** True if anything but host and tenant tells the caller from others. */
  readonly isKnown: boolean;
}

const NOBODY = 'anonymous';

/**
 * Returns the scope that `@Idempotent` gives a request by default: the name of its caller. The
 * principal that the server attached comes first: `request.user`, `request.auth`,
 * `request.oidc.user`, the user of the session or of an API gateway's authorizer, by id, issuer,
 * provider, kind and tenant. Next comes a secret that stays: an API key, Basic credentials or a
 * verified client certificate. Without these the scope is empty.
 *
 * @throws ConfigurationError when the request has a principal that cannot be told from others
 * @throws IdempotencyCallerUnknownError when the connection is gone, so that a client certificate
 * cannot be checked
 */
export const callerScope = (request: CallerRequest): string => callerOf(request as HttpRequest).scope;

/**
 * Returns the evidence that `@Idempotent` takes from a request by default: parts that do not name
 * the caller, but must be the same when the request is repeated. For every caller these are the
 * host name and the headers for tenants, for acting on behalf of another, and for users of a
 * gateway. For a caller that the server does not name, credentials, the session that the client
 * brought and session cookies count, too.
 *
 * @throws as {@link callerScope}
 */
export const callerEvidence = (request: CallerRequest): string => callerOf(request as HttpRequest).evidence;

export function callerOf(request: HttpRequest): Caller {
  const name = attachedName(request);
  const said = new Sayings(request, name === undefined);
  const secret = name === undefined ? said.secret() : undefined;
  return {
    scope: name ? scopeOfName(name) : (secret ?? NOBODY),
    evidence: said.evidence(),
    isKnown: name !== undefined || secret !== undefined || said.tellsCaller,
  };
}

/** Each part with its length in front, so that no two names run into one. */
function scopeOfName(name: readonly string[]): string {
  let scope = '';
  for (const part of name) scope += `${part.length}:${part}`;
  return scope;
}

/** Collects what the headers of a request say about its caller. */
class Sayings {
  /** Collected for every caller: host, tenant, and the user that a gateway names. */
  private readonly parts: string[] = [];
  private readonly secrets: string[] = [];
  tellsCaller = false;

  /** @param isNameless credentials and sessions count only then */
  constructor(
    private readonly request: HttpRequest,
    private readonly isNameless: boolean,
  ) {
    const { headers } = request;
    for (const name in headers) {
      const use = CALLER_HEADERS.get(name);
      if (use === undefined) continue;
      const given = headers[name];
      if (given === undefined || given.length === 0) continue;
      this.read(name, use, String(given));
    }
    this.readTenant(request);
    this.readTenant(request.raw);
  }

  /** @returns the resulting name; undefined when there is none */
  secret(): string | undefined {
    const certificate = certificateOf(this.request);
    if (certificate !== undefined) this.secrets.push(`certificate:${certificate}`);
    if (this.secrets.length === 0) return undefined;
    return `secret:${hash('sha256', this.secrets.toSorted().join('\n'), 'base64url')}`;
  }

  evidence(): string {
    const { parts } = this;
    return parts.length > 1 ? parts.toSorted().join('\n') : (parts[0] ?? '');
  }

  private read(name: string, use: CallerHeader, value: string): void {
    switch (use) {
      case 'host':
        this.parts.push(`${name === ':authority' ? 'host' : name}:${hostName(value)}`);
        return;
      case 'forwarded': {
        const host = forwardedHost(value);
        if (host !== undefined) this.parts.push(`forwarded:${hostName(host)}`);
        return;
      }
      case 'tenant':
        this.parts.push(`${name}:${value}`);
        return;
      case 'user':
        this.add(`${name}:${value}`);
        return;
      default:
        // Beside a secret they count too: it may be an application's, which has users of its own.
        if (this.isNameless) this.readCredential(name, use, value);
    }
  }

  private readCredential(name: string, use: CallerHeader, value: string): void {
    if (use === 'cookie') {
      const session = broughtSession(this.request, value);
      if (session !== undefined) this.add(session);
    } else if (use === 'authorization') {
      const credential = credentialOf(value);
      if (credential.isStable) this.secrets.push(credential.value);
      else this.add(`${name}:${credential.value}`);
    } else if (use === 'signature') {
      const key = keyOfSignature(value);
      if (key !== undefined) this.add(`${name}:${key}`);
    } else if (use === 'key' && !isJwt(value)) this.secrets.push(`${name}:${value}`);
    else this.add(`${name}:${value}`);
  }

  private add(part: string): void {
    this.tellsCaller = true;
    this.parts.push(part);
  }

  /** The tenant that the server has found out, maybe from a header or the host. */
  private readTenant(from: Partial<HttpRequest> | undefined): void {
    if (!from) return;
    const { tenant, tenantId, organization, organizationId, workspace, workspaceId } = from;
    const found = tenant ?? tenantId ?? organization ?? organizationId ?? workspace ?? workspaceId;
    const realm = found === undefined || found === null ? undefined : realmOf(found);
    if (realm !== undefined) this.parts.push(`tenant:${realm}`);
  }
}
