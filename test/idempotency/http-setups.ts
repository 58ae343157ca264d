import { createHmac } from 'node:crypto';
import cookiePlugin from '@fastify/cookie';
import secureSession from '@fastify/secure-session';
import fastifySession from '@fastify/session';
import { UnauthorizedException, type INestApplication } from '@nestjs/common';
import cookieSession from 'cookie-session';
import { auth as oauth2 } from 'express-oauth2-jwt-bearer';
import expressSession from 'express-session';
import type { AtomicRedisOptions } from 'nestjs-atomic-redis';
import passport from 'passport';
import { ExtractJwt, Strategy as JwtStrategy } from 'passport-jwt';
import { Strategy as LocalStrategy } from 'passport-local';
import type { AnyRequest } from './http-app.js';

type Headers = Record<string, string>;
export type Platform = 'express' | 'fastify';

/** The result of a request: the kept response, a run of its own, or a refusal. */
export type Gets = 'the first response' | 'a run of its own' | '422' | '403' | '401';

/** A way in which applications know their callers. */
export interface SetUp {
  readonly name: string;
  /** Describes the source of the caller's name. */
  readonly named: string;
  readonly retry: Gets;
  readonly stranger: Gets;
  /** Headers of a caller's attempt; `logIn` gives the cookies of a session that was begun by it. */
  readonly as: (who: 'ada' | 'bob', attempt: number, logIn: LogIn) => Headers | Promise<Headers>;
  readonly configure?: (app: INestApplication, platform: Platform) => void | Promise<void>;
  /** Stands in front of the routes, as authentication does. */
  readonly guard?: (request: AnyRequest, platform: Platform) => void | Promise<void>;
  readonly idempotency?: AtomicRedisOptions['idempotency'];
  /** Over TLS, with a certificate of the client. */
  readonly hasCertificate?: boolean;
}

export type LogIn = (who: string) => Promise<Headers>;

const SECRET = 'a secret of thirty-two characters';
const AUDIENCE = 'https://shop.example';
const ISSUER = 'https://issuer.example/';

/** Signed by HS256, as jsonwebtoken does. */
function jwt(claims: object): string {
  const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url');
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

/** Another token at each attempt. */
const tokenOf = (sub: string, attempt: number, more: object = {}): string =>
  jwt({ iss: ISSUER, aud: AUDIENCE, sub, iat: now() - attempt, exp: now() + 600 + attempt, ...more });

const now = (): number => Math.floor(Date.now() / 1_000);

const bearer = (token: string): Headers => ({ authorization: `Bearer ${token}` });

const claimsOf = (request: Pick<AnyRequest, 'headers'>): Record<string, unknown> =>
  JSON.parse(
    Buffer.from(String(request.headers.authorization).split('.')[1]!, 'base64url').toString(),
  ) as Record<string, unknown>;

/** Sets the user like the guards of @nestjs/passport. */
const passportGuard =
  (strategy: string) =>
  (request: AnyRequest): Promise<void> =>
    new Promise((resolve, reject) => {
      const done = (error: unknown, user: unknown): void => {
        request.user = user;
        if (error || !user) reject(new UnauthorizedException());
        else resolve();
      };
      (passport.authenticate(strategy, { session: false }, done) as (...args: unknown[]) => void)(
        request,
        {},
        reject,
      );
    });

passport.use(
  new JwtStrategy(
    { jwtFromRequest: ExtractJwt.fromAuthHeaderAsBearerToken(), secretOrKey: SECRET, audience: AUDIENCE },
    (claims: object, done: (error: unknown, user: object) => void) => done(null, claims),
  ),
);
passport.use(
  new LocalStrategy((username: string, _password: string, done: (error: unknown, user: object) => void) =>
    done(null, { id: username === 'ada' ? 1 : 2, username }),
  ),
);

const inExpressSession = (app: INestApplication): void => {
  app.use(expressSession({ secret: SECRET, resave: false, saveUninitialized: true }));
};

const inSession = async (app: INestApplication, platform: Platform): Promise<void> => {
  if (platform === 'express') inExpressSession(app);
  else await plugins(app, [[cookiePlugin], [fastifySession, { secret: SECRET, cookie: { secure: false } }]]);
};

async function plugins(app: INestApplication, all: [plugin: unknown, options?: object][]): Promise<void> {
  const { register } = app as unknown as { register(plugin: unknown, options?: object): Promise<unknown> };
  for (const [plugin, options] of all) await Reflect.apply(register, app, [plugin, options]);
}

const signed = (body: string, at: number): string =>
  createHmac('sha256', SECRET).update(`${at}.${body}`).digest('hex');

const sigV4 = (key: string, attempt: number): string =>
  `AWS4-HMAC-SHA256 Credential=${key}/20261129/eu-west-1/execute-api/aws4_request, ` +
  `SignedHeaders=host;x-amz-date, Signature=${String(attempt).repeat(64)}`;

/** A middleware of Express, where Fastify has none of its own. */
const authorizedBy =
  (middleware: () => unknown, standIn: (request: AnyRequest) => void) =>
  (request: AnyRequest, platform: Platform): Promise<void> | void => {
    if (platform === 'fastify') return standIn(request);
    return new Promise((resolve, reject) => {
      const run = middleware() as (
        request: AnyRequest,
        response: object,
        next: (error?: Error) => void,
      ) => void;
      run(request, {}, (error) => (error ? reject(error) : resolve()));
    });
  };

export const SET_UPS: readonly SetUp[] = [
  {
    name: 'Passport, JWT',
    named: '`request.user` by `sub` and `iss`',
    retry: 'the first response',
    stranger: 'a run of its own',
    as: (who, attempt) => bearer(tokenOf(who, attempt)),
    guard: passportGuard('jwt'),
  },
  {
    name: 'Passport, local, with a session',
    named: 'the session’s `passport.user`',
    retry: 'the first response',
    stranger: 'a run of its own',
    as: (who, _, logIn) => logIn(who),
    configure: inSession,
  },
  {
    name: 'Passport, local, without one',
    named: '`request.user` by `id`',
    retry: 'the first response',
    stranger: 'a run of its own',
    as: (who) => ({ 'log-in': who }),
    guard: (request) => {
      // Express has an accessor here.
      const value = { username: request.headers['log-in'], password: 'secret' };
      Object.defineProperty(request, 'query', { value });
      return passportGuard('local')(request);
    },
  },
  {
    // Google itself is not asked: the profile is its strategy's reading of the answer.
    name: 'Passport, Google',
    named: '`request.user` by `id` and `provider`',
    retry: 'the first response',
    stranger: 'a run of its own',
    as: (who) => ({ 'log-in': who }),
    guard: (request) => {
      const id = String(request.headers['log-in']);
      request.user = { provider: 'google', id, displayName: 'Ada', _json: { sub: id, hd: 'example.com' } };
    },
  },
  {
    name: 'express-session, @fastify/session',
    named: 'the session’s `userId`',
    retry: 'the first response',
    stranger: 'a run of its own',
    as: (who, _, logIn) => logIn(`userId:${who}`),
    configure: inSession,
  },
  {
    name: 'the same, a guest with a cart',
    named: 'nothing; evidence: the session id',
    retry: 'the first response',
    stranger: '422',
    as: (who, _, logIn) => logIn(`cart:${who}`),
    configure: inSession,
  },
  {
    name: 'the same, before the first session cookie',
    named: 'nothing',
    retry: 'the first response',
    stranger: 'the first response',
    as: (_, attempt) => ({ cookie: `_ga=${attempt}` }),
    configure: inSession,
  },
  {
    name: 'the same, the cookie came with the first response',
    named: 'nothing; evidence: the session id',
    retry: '422',
    stranger: '422',
    as: (who, attempt, logIn) => (who === 'ada' && attempt === 1 ? {} : logIn(`cart:${who}`)),
    configure: inSession,
  },
  {
    name: 'cookie-session, @fastify/secure-session',
    named: 'the session’s `user`',
    retry: 'the first response',
    stranger: 'a run of its own',
    as: (who, _, logIn) => logIn(`user:${who}`),
    configure: async (app, platform) => {
      if (platform === 'express') app.use(cookieSession({ secret: SECRET }));
      else await plugins(app, [[secureSession, { key: Buffer.alloc(32, 'k') }]]);
    },
  },
  {
    name: 'express-oauth2-jwt-bearer (Auth0)',
    named: '`request.auth.payload` by `sub`, `iss` and `org_id`',
    retry: 'the first response',
    stranger: 'a run of its own',
    as: (who, attempt) => bearer(tokenOf('auth0|1', attempt, { org_id: `org_${who}` })),
    guard: authorizedBy(
      () => oauth2({ secret: SECRET, tokenSigningAlg: 'HS256', issuer: ISSUER, audience: AUDIENCE }),
      (request) => {
        request.auth = { header: {}, payload: claimsOf(request), token: request.headers.authorization };
      },
    ),
  },
  {
    // A stand-in: the middleware wants an issuer to log in at.
    name: 'express-openid-connect (Auth0)',
    named: '`request.oidc.user` by `sub`',
    retry: 'the first response',
    stranger: 'a run of its own',
    as: (who) => ({ cookie: `appSession=${who}` }),
    guard: (request) => {
      request.oidc = { user: { sub: String(request.headers.cookie).split('=')[1], sid: Math.random() } };
    },
  },
  {
    name: 'API key',
    named: 'the key in `X-API-Key`, hashed',
    retry: 'the first response',
    stranger: 'a run of its own',
    as: (who, attempt) => ({ 'x-api-key': `key of ${who}`, 'x-request-id': String(attempt) }),
  },
  {
    name: 'an application’s API key, and its users’ tokens',
    named: 'the key; evidence: `Authorization`',
    retry: 'the first response',
    stranger: '422',
    as: (who) => ({ 'x-api-key': 'of all', authorization: `Bearer ${who}` }),
  },
  {
    name: 'Basic',
    named: 'the credentials, hashed',
    retry: 'the first response',
    stranger: 'a run of its own',
    as: (who) => ({ authorization: `Basic ${btoa(`${who}:secret`)}` }),
  },
  {
    name: 'mutual TLS',
    named: 'the verified certificate’s URI, else subject and issuer',
    retry: 'the first response',
    stranger: 'a run of its own',
    as: () => ({}),
    hasCertificate: true,
  },
  {
    // The event as the gateway writes it, on the request as adapters put it there.
    name: 'API Gateway authorizer',
    named: 'its `principalId` or claims',
    retry: 'the first response',
    stranger: 'a run of its own',
    as: (who, attempt) => bearer(tokenOf(who, attempt)),
    guard: (request) => {
      const { sub, iss } = claimsOf(request);
      const requestContext = { authorizer: { jwt: { claims: { sub, iss }, scopes: null } } };
      request.apiGateway = { event: { requestContext } };
    },
  },
  {
    name: 'a guest',
    named: 'nothing',
    retry: 'the first response',
    stranger: 'the first response',
    as: () => ({}),
  },
  {
    name: 'a guest, with `requireCaller`',
    named: 'nothing',
    retry: '403',
    stranger: '403',
    as: () => ({ 'x-tenant-id': 'blue' }),
    idempotency: { requireCaller: true },
  },
  {
    name: 'a signed webhook',
    named: 'nothing; the guard refuses strangers',
    retry: 'the first response',
    stranger: '401',
    as: (who, attempt) => ({
      'webhook-timestamp': String(attempt),
      'webhook-signature': who === 'ada' ? signed('{}', attempt) : 'forged',
    }),
    guard: ({ headers }) => {
      if (headers['webhook-signature'] !== signed('{}', Number(headers['webhook-timestamp'])))
        throw new UnauthorizedException();
    },
  },
  {
    name: 'AWS Signature Version 4',
    named: 'nothing; evidence: the key id',
    retry: 'the first response',
    stranger: '422',
    as: (who, attempt) => ({ authorization: sigV4(`AKIA${who}`, attempt), 'x-amz-date': String(attempt) }),
  },
  {
    name: 'an SDK with headers for each attempt',
    named: 'nothing; evidence: `Authorization`',
    retry: 'the first response',
    stranger: '422',
    as: (who, attempt) => ({
      authorization: `Bearer sk_${who}`,
      'x-stainless-retry-count': String(attempt),
      'x-request-id': `request ${attempt}`,
      traceparent: `00-${'0'.repeat(31)}${attempt}-${'0'.repeat(15)}1-00`,
      dpop: `proof ${attempt}`,
      'x-csrf-token': `csrf ${attempt}`,
      'x-recaptcha-token': `captcha ${attempt}`,
      'x-timestamp': String(attempt),
      'x-signature': `signature ${attempt}`,
    }),
  },
  {
    name: 'a mobile token that was refreshed, nothing set by a guard',
    named: 'nothing; evidence: `Authorization`',
    retry: '422',
    stranger: '422',
    as: (who, attempt) => bearer(tokenOf(who, attempt)),
  },
  {
    name: 'the same, with `idempotency.scope`',
    named: 'the scope',
    retry: 'the first response',
    stranger: 'a run of its own',
    as: (who, attempt) => bearer(tokenOf(who, attempt)),
    idempotency: {
      scope: async (request) => {
        await Promise.resolve();
        return String(claimsOf(request).sub);
      },
    },
  },
  {
    name: 'a token in a cookie, nothing set by a guard',
    named: 'nothing; evidence: the cookie',
    retry: 'the first response',
    stranger: '422',
    as: (who, attempt) => ({ cookie: `access_token=${who}; _ga=${attempt}` }),
  },
  {
    name: 'headers of load balancers',
    named: 'nothing; none of them counts',
    retry: 'the first response',
    stranger: 'the first response',
    as: (who, attempt) => ({
      'x-forwarded-for': `192.0.2.${attempt}`,
      'x-forwarded-port': String(attempt),
      'x-real-ip': who,
      'x-amzn-trace-id': `Root=${attempt}`,
      'cf-ray': `ray ${attempt}`,
      via: `1.1 ${attempt}`,
    }),
  },
  {
    name: 'a tenant by header',
    named: 'the user; evidence: `X-Tenant-Id`',
    retry: 'the first response',
    stranger: '422',
    as: (who) => ({ 'x-tenant-id': who }),
    guard: (request) => {
      request.user = { id: 1 };
    },
  },
  {
    name: 'a tenant by claim',
    named: 'the user by `sub` and `tenant_id`',
    retry: 'the first response',
    stranger: 'a run of its own',
    as: (who, attempt) => bearer(tokenOf('1', attempt, { tenant_id: who })),
    guard: passportGuard('jwt'),
  },
  {
    name: 'a tenant by host',
    named: 'the user; evidence: the host name',
    retry: 'the first response',
    stranger: '422',
    as: (who, attempt) => ({
      host: attempt === 1 ? `${who}.example.com` : `${who.toUpperCase()}.example.com:443`,
    }),
    guard: (request) => {
      request.user = { id: 1 };
    },
  },
  {
    name: 'acting for another',
    named: 'the user; evidence: `X-On-Behalf-Of`',
    retry: 'the first response',
    stranger: '422',
    as: (who) => ({ 'x-on-behalf-of': who }),
    guard: (request) => {
      request.user = { id: 'support' };
    },
  },
  {
    name: 'a user by a gateway’s header',
    named: 'nothing; evidence: `X-Forwarded-User`',
    retry: 'the first response',
    stranger: '422',
    as: (who) => ({ 'x-forwarded-user': who }),
  },
];
