import { describe } from '../atomic-redis.errors.js';
import type { HttpRequest } from './http-request.js';
import { nameOfPrincipal, unrecognised } from './principal.js';
import { userOfSession } from './session-user.js';

/** Returns the caller's name as the server has found it out. */
export function attachedName(request: HttpRequest): readonly string[] | undefined {
  const { raw } = request;
  // Fastify: middleware has Node's request, everything else Fastify's.
  const user = request.user ?? raw?.user;
  // Fastify applications declare `user` beforehand, as null or ''.
  if (user !== undefined && user !== null && user !== '' && user !== false)
    return ['user', ...recognised('user', user)];
  const auth = request.auth ?? raw?.auth;
  if (
    (typeof auth === 'object' && auth !== null && !isNobody(auth)) ||
    (typeof auth === 'string' && auth !== '')
  )
    return ['auth', ...recognised('auth', auth)];
  const oidcUser = (request.oidc ?? raw?.oidc)?.user;
  if (oidcUser) return ['oidc', ...recognised('oidc.user', oidcUser)];
  const sessionUser = userOfSession(request);
  if (sessionUser) return ['session', ...sessionUser];
  const authorized = nameOfPrincipal(authorizerOf(request) ?? authorizerOf(raw));
  return authorized && ['authorizer', ...authorized];
}

function recognised(property: string, principal: unknown): readonly string[] {
  const name = nameOfPrincipal(principal);
  if (name) return name;
  throw unrecognised(
    `request.${property} is ${describe(principal)} and has no id, sub, userId, username, email or the like as a string or number`,
  );
}

/** Authentication that says of itself that there was none. */
function isNobody(auth: object): boolean {
  const { isAuthenticated, userId, user } = auth as Readonly<Record<string, unknown>>;
  return isAuthenticated === false || userId === null || user === null;
}

/** Finds the authorizer of API Gateway, as the adapters for AWS Lambda put it on a request. */
function authorizerOf(request: Partial<HttpRequest> | undefined): unknown {
  const context =
    request?.requestContext ??
    request?.apiGateway?.event?.requestContext ??
    request?.awsLambda?.event?.requestContext;
  return context?.authorizer;
}
