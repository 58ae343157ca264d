import type { IncomingHttpHeaders } from 'node:http';
import { callerEvidence, callerScope, ConfigurationError } from 'nestjs-atomic-redis';
import { ObjectId } from './support.js';

/**
 * The properties that middleware and adapters put on a request; the library declares only those it
 * reads.
 */
type Loose = { headers?: IncomingHttpHeaders } & Record<string, unknown>;

const request = (given: Loose): Parameters<typeof callerScope>[0] => ({ headers: {}, ...given });
const scopeOf = (given: Loose): string => callerScope(request(given));
const evidenceOf = (given: Loose): string => callerEvidence(request(given));

/** Fields are accessors of the class, as in models of Mongoose and Sequelize. */
class Model {
  constructor(private readonly values: { id: unknown; tenantId?: unknown }) {}

  get id(): unknown {
    return this.values.id;
  }

  get tenantId(): unknown {
    return this.values.tenantId;
  }
}

const NOBODY = scopeOf({});

describe('the name of a caller', () => {
  it.each<[string, Loose, Loose]>([
    ['ids', { user: { id: 1 } }, { user: { id: 2 } }],
    ['a number and its text', { user: { id: 1 } }, { user: { id: '1' } }],
    ['a bigint and a number', { user: { id: 1n } }, { user: { id: 1 } }],
    ['an id of 0 and none', { user: { id: 0, sub: 'a' } }, { user: { sub: 'a' } }],
    ['ids of a database', { user: { _id: new ObjectId('a') } }, { user: { _id: new ObjectId('b') } }],
    ['models', { user: new Model({ id: 1 }) }, { user: new Model({ id: 2 }) }],
    [
      'models of tenants',
      { user: new Model({ id: 1, tenantId: 1 }) },
      { user: new Model({ id: 1, tenantId: 2 }) },
    ],
    ['nested users', { user: { user: { id: 1 }, token: 't' } }, { user: { user: { id: 2 }, token: 't' } }],
    ['payloads', { user: { payload: { sub: 'a' } } }, { user: { payload: { sub: 'b' } } }],
    ['profiles', { user: { _json: { oid: 'a' } } }, { user: { _json: { oid: 'b' } } }],
    [
      'tenants beside a nested user',
      { user: { user: { id: 1 }, tenantId: 1 } },
      { user: { user: { id: 1 }, tenantId: 2 } },
    ],
    ['providers', { user: { id: 1, provider: 'google' } }, { user: { id: 1, provider: 'github' } }],
    ['kinds', { user: { id: 1, type: 'driver' } }, { user: { id: 1, type: 'rider' } }],
    ['user_type', { user: { id: 1, user_type: 'driver' } }, { user: { id: 1, user_type: 'rider' } }],
    ['tenant_id', { user: { sub: 'a', tenant_id: 1 } }, { user: { sub: 'a', tenant_id: 2 } }],
    ['org_id', { user: { sub: 'a', org_id: 1 } }, { user: { sub: 'a', org_id: 2 } }],
    ['companyId', { user: { id: 1, companyId: 1 } }, { user: { id: 1, companyId: 2 } }],
    ['company', { user: { id: 1, company: { id: 1 } } }, { user: { id: 1, company: { id: 2 } } }],
    [
      'custom:tenant_id',
      { user: { sub: 'a', 'custom:tenant_id': 1 } },
      { user: { sub: 'a', 'custom:tenant_id': 2 } },
    ],
    [
      'claims with namespaces',
      { user: { sub: 'a', 'https://x.io/tenant': 1 } },
      { user: { sub: 'a', 'https://x.io/tenant': 2 } },
    ],
    [
      'organizations',
      { user: { sub: 'a', organization: ['x'] } },
      { user: { sub: 'a', organization: ['y'] } },
    ],
    [
      'Identity Platform’s tenants',
      { user: { uid: 'a', firebase: { tenant: 'x' } } },
      { user: { uid: 'a', firebase: { tenant: 'y' } } },
    ],
    ['actors', { user: { sub: 'a', act: { sub: 'x' } } }, { user: { sub: 'a' } }],
    ['a tenant and an organization', { user: { id: 1, orgId: 1 } }, { user: { id: 1, tenantId: 1 } }],
    ['sources', { user: 'ada' }, { auth: 'ada' }],
    [
      'Basic of express-basic-auth',
      { auth: { user: 'ada', password: 'x' } },
      { auth: { user: 'bob', password: 'x' } },
    ],
    [
      'Auth0 organizations',
      { auth: { payload: { sub: 'a', org_id: 1 } } },
      { auth: { payload: { sub: 'a', org_id: 2 } } },
    ],
    ['oidc users', { oidc: { user: { sub: 'a' } } }, { oidc: { user: { sub: 'b' } } }],
    ['user_id of a session', { session: { user_id: 1 } }, { session: { user_id: 2 } }],
    ['users of Passport', { session: { passport: { user: 1 } } }, { session: { passport: { user: 2 } } }],
    [
      'users of a session’s data',
      { session: { data: () => ({ user: 1 }) } },
      { session: { data: () => ({ user: 2 }) } },
    ],
    ['users of SuperTokens', { session: { getUserId: () => 'a' } }, { session: { getUserId: () => 'b' } }],
    [
      'tenants of a session',
      { session: { userId: 1, tenantId: 1 } },
      { session: { userId: 1, tenantId: 2 } },
    ],
    [
      'authorizers',
      { requestContext: { authorizer: { principalId: 'ada' } } },
      { requestContext: { authorizer: { principalId: 'bob' } } },
    ],
    [
      'claims of Cognito',
      { apiGateway: { event: { requestContext: { authorizer: { claims: { sub: 'a' } } } } } },
      { apiGateway: { event: { requestContext: { authorizer: { claims: { sub: 'b' } } } } } },
    ],
    [
      'claims of an HTTP API',
      { awsLambda: { event: { requestContext: { authorizer: { jwt: { claims: { sub: 'a' } } } } } } },
      { awsLambda: { event: { requestContext: { authorizer: { jwt: { claims: { sub: 'b' } } } } } } },
    ],
    ['principals on Node’s own request', { raw: { user: { id: 1 } } }, { raw: { user: { id: 2 } } }],
    ['API keys', { headers: { 'x-api-key': 'a' } }, { headers: { 'x-api-key': 'b' } }],
    [
      'Basic credentials',
      { headers: { authorization: 'Basic YQ==' } },
      { headers: { authorization: 'Basic Yg==' } },
    ],
  ])('[ID-5] differs between %s', (_, one, other) => {
    for (const scope of [scopeOf(one), scopeOf(other)]) {
      expect(scope).not.toBe(NOBODY);
      expect(scope).not.toContain('undefined');
    }
    expect(scopeOf(one)).not.toBe(scopeOf(other));
    expect(scopeOf(one)).toBe(scopeOf(one));
  });

  it.each<[string, Loose, Loose]>([
    ['another time of login', { user: { id: 1, lastLogin: 1 } }, { user: { id: 1, lastLogin: 2 } }],
    [
      'a token that was renewed',
      { user: { sub: 'a', iat: 1, exp: 2, jti: 'x' } },
      { user: { sub: 'a', iat: 2, exp: 3, jti: 'y' } },
    ],
    [
      'claims in another order',
      { user: { sub: 'a', iss: 'i', org_id: 1 } },
      { user: { org_id: 1, iss: 'i', sub: 'a' } },
    ],
    [
      'another session of the user',
      { session: { id: 's1', userId: 1 } },
      { session: { id: 's2', userId: 1 } },
    ],
    [
      'other credentials of the user',
      { user: { id: 1 }, headers: { authorization: 'Bearer a' } },
      { user: { id: 1 }, headers: { authorization: 'Bearer b' } },
    ],
    ['a tenant that is not set', { user: { id: 1, tenantId: null } }, { user: { id: 1 } }],
    ['a renewed client certificate', certified('uri:a', 1), certified('uri:a', 2)],
  ])('[ID-5] does not change with %s', (_, one, other) => {
    expect(scopeOf(one)).toBe(scopeOf(other));
    expect(evidenceOf(one)).toBe(evidenceOf(other));
  });

  it.each<[string, Loose]>([
    ['a name without an id', { user: { name: 'ada' } }],
    ['an id that is an object', { user: { id: {} } }],
    ['a tenant without an id', { user: { id: 1, tenant: { name: 'x' } } }],
    ['true', { user: true }],
    ['an array', { user: [] }],
    ['scopes only', { auth: { scopes: ['read'] } }],
    ['a user without an id', { oidc: { user: { nickname: 'ada' } } }],
  ])('[ID-5] is refused to %s', (_, given) => {
    expect(() => scopeOf(given)).toThrow(ConfigurationError);
    expect(() => scopeOf(given)).toThrow(/scope/);
  });

  it.each<[string, Loose]>([
    ['properties that Fastify declares beforehand', { user: null, session: null }],
    ['an empty user', { user: '' }],
    ['authentication that reports none', { auth: { isAuthenticated: false } }],
    ['a signed-out user of Clerk', { auth: { userId: null, sessionId: null } }],
    ['a session of a guest', { session: { id: '1', cart: [1] } }],
    ['a session with a user that says nothing', { session: { user: { theme: 'dark' } } }],
    ['the principal of AWS’s samples', { requestContext: { authorizer: { principalId: 'user' } } }],
    ['an unverified certificate', { socket: { authorized: false, getPeerCertificate: () => fail() } }],
    ['a token', { headers: { authorization: 'Bearer a' } }],
    ['a JWT as an API key', { headers: { 'x-api-key': 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln' } }],
    ['headers of gateways', { headers: { 'x-user-id': 'ada', 'x-tenant-id': 'blue' } }],
  ])('[ID-5] is anonymous for %s', (_, given) => {
    expect(scopeOf(given)).toBe(NOBODY);
  });

  it('[ID-5] contains no secret', () => {
    expect(scopeOf({ headers: { 'x-api-key': 'the secret' } })).not.toContain('the secret');
  });

  it('[ID-5] is not guessed for a client whose connection has closed', () => {
    const socket = {
      get authorized(): boolean {
        throw Object.assign(new Error('gone'), { code: 'ERR_HTTP2_SOCKET_UNBOUND' });
      },
    };
    expect(() => scopeOf({ socket })).toThrow(
      expect.objectContaining({ code: 'IDEMPOTENCY_CALLER_UNKNOWN' }),
    );
  });
});

describe('the evidence of a caller', () => {
  const headers = (given: IncomingHttpHeaders): Loose => ({ headers: given });

  it.each<[string, Loose, Loose]>([
    ['tokens', headers({ authorization: 'Bearer a' }), headers({ authorization: 'Bearer b' })],
    ['tokens in other headers', headers({ 'x-auth-token': 'a' }), headers({ 'x-auth-token': 'b' })],
    ['keys of SigV4', sigV4('A', 1), sigV4('B', 1)],
    ['users of Digest', digest('ada', 1), digest('bob', 1)],
    ['keys of Hawk', hawk('a', 1), hawk('b', 1)],
    ['keys of HTTP signatures', signature('a', 1), signature('b', 1)],
    ['keys of message signatures', messageSignature('a', 1), messageSignature('b', 1)],
    ['tokens of OAuth 1', oauth1('a', 1), oauth1('b', 1)],
    [
      'sessions',
      { session: { id: 'x' }, ...headers({ cookie: 'my=x' }) },
      { session: { id: 'y' }, ...headers({ cookie: 'my=y' }) },
    ],
    [
      'sessions of express-session',
      { sessionID: 'x', ...headers({ cookie: 'my=s%3Ax.sig' }) },
      { sessionID: 'y', ...headers({ cookie: 'my=s%3Ay.sig' }) },
    ],
    ['session cookies', headers({ cookie: 'JSESSIONID=a' }), headers({ cookie: 'JSESSIONID=b' })],
    [
      'session cookies in parts',
      headers({ cookie: '__Secure-authjs.session-token.0=a' }),
      headers({ cookie: '__Secure-authjs.session-token.0=b' }),
    ],
    [
      'cookies of cookie-session',
      { sessionOptions: { name: 'mine' }, ...headers({ cookie: 'mine=a' }) },
      { sessionOptions: { name: 'mine' }, ...headers({ cookie: 'mine=b' }) },
    ],
    [
      'users of an application with a key',
      headers({ 'x-api-key': 'k', authorization: 'Bearer a' }),
      headers({ 'x-api-key': 'k', authorization: 'Bearer b' }),
    ],
    [
      'users of an application with Basic',
      { sessionID: 'x', ...headers({ authorization: 'Basic YQ==', cookie: 'my=x' }) },
      { sessionID: 'y', ...headers({ authorization: 'Basic YQ==', cookie: 'my=y' }) },
    ],
    ['hosts', headers({ host: 'blue.example.com' }), headers({ host: 'red.example.com' })],
    [
      'hosts of HTTP/2',
      headers({ ':authority': 'blue.example.com' }),
      headers({ ':authority': 'red.example.com' }),
    ],
    [
      'hosts behind a proxy',
      headers({ host: 'up', 'x-forwarded-host': 'blue.example.com' }),
      headers({ host: 'up', 'x-forwarded-host': 'red.example.com' }),
    ],
    [
      'hosts of Forwarded',
      headers({ forwarded: 'for=1;host=blue.example.com' }),
      headers({ forwarded: 'for=1;host=red.example.com' }),
    ],
    [
      'tenants',
      { user: { id: 1 }, ...headers({ 'x-tenant-id': 'a' }) },
      { user: { id: 1 }, ...headers({ 'x-tenant-id': 'b' }) },
    ],
    ['connected accounts', headers({ 'stripe-account': 'a' }), headers({ 'stripe-account': 'b' })],
    [
      'users on whose behalf a caller acts',
      { user: { id: 1 }, ...headers({ 'impersonate-user': 'a' }) },
      { user: { id: 1 }, ...headers({}) },
    ],
    ['users of a gateway', headers({ 'x-consumer-id': 'a' }), headers({ 'x-consumer-id': 'b' })],
    [
      'tenants of middleware',
      { user: { id: 1 }, tenant: { id: 'a' } },
      { user: { id: 1 }, tenant: { id: 'b' } },
    ],
  ])('[ID-5] differs between %s', (_, one, other) => {
    expect(scopeOf(one)).toBe(scopeOf(other));
    expect(evidenceOf(one)).not.toBe(evidenceOf(other));
    expect(evidenceOf(one)).toBe(evidenceOf(one));
  });

  it.each<[string, Loose, Loose]>([
    ['another signature of SigV4', sigV4('A', 1), sigV4('A', 2)],
    ['another nonce of Digest', digest('ada', 1), digest('ada', 2)],
    ['another nonce of Hawk', hawk('a', 1), hawk('a', 2)],
    ['another HTTP signature', signature('a', 1), signature('a', 2)],
    ['another message signature', messageSignature('a', 1), messageSignature('a', 2)],
    ['another nonce of OAuth 1', oauth1('a', 1), oauth1('a', 2)],
    [
      'a scheme in another case',
      headers({ authorization: 'Bearer a' }),
      headers({ authorization: 'bearer a' }),
    ],
    [
      'a port and the case of the host',
      headers({ host: 'Blue.example.com:8080' }),
      headers({ host: 'blue.example.com' }),
    ],
    [
      'other cookies',
      headers({ cookie: 'sid=1; _ga=1; XSRF-TOKEN=1' }),
      headers({ cookie: '_ga=2; sid=1; XSRF-TOKEN=2' }),
    ],
    [
      'headers in another order',
      headers({ 'x-tenant-id': 'a', 'x-user-id': 'b' }),
      headers({ 'x-user-id': 'b', 'x-tenant-id': 'a' }),
    ],
    [
      'a session made for this request',
      { sessionID: 'new1', ...headers({ cookie: '_ga=1' }) },
      { sessionID: 'new2', ...headers({ cookie: '_ga=1' }) },
    ],
    [
      'values made for each attempt',
      headers({
        'x-signature': '1',
        'x-csrf-token': '1',
        dpop: '1',
        traceparent: '1',
        date: '1',
        'x-retry-count': '1',
        'stripe-signature': '1',
        'x-hub-signature-256': '1',
      }),
      headers({
        'x-signature': '2',
        'x-csrf-token': '2',
        dpop: '2',
        traceparent: '2',
        date: '2',
        'x-retry-count': '2',
        'stripe-signature': '2',
        'x-hub-signature-256': '2',
      }),
    ],
  ])('[ID-5] does not change with %s', (_, one, other) => {
    expect(evidenceOf(one)).toBe(evidenceOf(other));
    expect(scopeOf(one)).toBe(scopeOf(other));
  });

  it('[ID-5] is empty for a request without any', () => {
    expect(evidenceOf({})).toBe('');
  });
});

function authorization(value: string): Loose {
  return { headers: { authorization: value } };
}

function sigV4(key: string, attempt: number): Loose {
  const scope = `2026112${attempt}/eu-west-1/execute-api/aws4_request`;
  return authorization(
    `AWS4-HMAC-SHA256 Credential=${key}/${scope}, SignedHeaders=host, Signature=${attempt}`,
  );
}

function digest(user: string, attempt: number): Loose {
  return authorization(`Digest username="${user}", realm="shop", nc=${attempt}, response="${attempt}"`);
}

function hawk(id: string, attempt: number): Loose {
  return authorization(`Hawk id="${id}", ts="${attempt}", nonce="${attempt}", mac="${attempt}="`);
}

function signature(key: string, attempt: number): Loose {
  return authorization(`Signature keyId="${key}",created=${attempt},signature="${attempt}"`);
}

function messageSignature(key: string, attempt: number): Loose {
  return {
    headers: {
      'signature-input': `sig1=("@method");created=${attempt};keyid="${key}"`,
      signature: `sig1=:${attempt}:`,
    },
  };
}

function oauth1(token: string, attempt: number): Loose {
  return authorization(
    `OAuth oauth_consumer_key="app", oauth_token="${token}", oauth_nonce="${attempt}", oauth_signature="${attempt}"`,
  );
}

function certified(uri: string, serialNumber: number): Loose {
  const certificate = {
    subject: { CN: `a${serialNumber}` },
    issuer: {},
    serialNumber,
    subjectaltname: `DNS:a, URI:${uri}`,
  };
  return { socket: { authorized: true, getPeerCertificate: () => certificate } };
}

function fail(): never {
  throw new Error('must not be asked');
}
