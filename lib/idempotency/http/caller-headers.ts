/**
 * The role of a header. `key` is a secret that is not renewed by itself. `token` is a secret that
 * may be renewed. `user` and `tenant` come from a gateway or from the client itself, and can be
 * forged.
 */
export type CallerHeader =
  'host' | 'authorization' | 'cookie' | 'signature' | 'key' | 'token' | 'user' | 'tenant' | 'forwarded';

const named = (use: CallerHeader, names: string): [string, CallerHeader][] =>
  names.split(' ').map((name) => [name, use]);

/**
 * Headers that name the caller, or the user on whose behalf it acts. This is a list, because
 * headers that change with each attempt (signatures, timestamps, CSRF and DPoP proofs, captchas,
 * traces, retry counters) must not count.
 */
export const CALLER_HEADERS: ReadonlyMap<string, CallerHeader> = new Map([
  ...named('host', 'host :authority x-forwarded-host x-original-host'),
  ...named('forwarded', 'forwarded'),
  ...named('authorization', 'authorization'),
  ...named('cookie', 'cookie'),
  ...named('signature', 'signature-input'),
  ...named(
    'key',
    'x-api-key api-key apikey x-apikey x-api-token ocp-apim-subscription-key x-functions-key x-goog-api-key',
  ),
  ...named(
    'token',
    'x-auth-token x-access-token x-session-token x-session-id x-user-token x-id-token cf-access-jwt-assertion',
  ),
  // Tenants.
  ...named(
    'tenant',
    'x-tenant-id x-tenant x-tenantid x-tenant-name x-tenant-slug tenant-id tenant tenantid x-org-id x-org x-orgid x-org-slug org-id x-organization-id x-organization ' +
      'x-organisation-id x-organisation organization-id openai-organization openai-project x-account-id x-account account-id x-workspace-id x-workspace ' +
      'workspace-id x-company-id x-company company-id x-team-id x-team x-store-id x-store x-shop-id x-shop x-shopify-shop-domain x-merchant-id x-merchant ' +
      'x-project-id x-project x-site-id x-site x-realm x-customer-id x-subdomain x-hasura-org-id x-hasura-tenant-id stripe-account stripe-context',
  ),
  // The user on whose behalf the caller acts.
  ...named(
    'user',
    'x-on-behalf-of on-behalf-of x-act-as x-acting-as x-acting-for x-acting-user x-actor x-actor-id impersonate-user x-impersonate-user x-impersonate ' +
      'x-impersonated-user x-impersonate-id x-sudo sudo x-run-as x-delegated-user x-switch-user x-goog-user-project',
  ),
  // Set by gateways that have authenticated the caller.
  ...named(
    'user',
    'x-user-id x-user x-userid x-user-name x-username x-user-email x-email remote-user x-remote-user remote_user x-webauth-user x-authenticated-user ' +
      'x-authenticated-userid x-authenticated-user-id x-auth-user x-auth-user-id x-auth-email x-auth-request-user x-auth-request-email ' +
      'x-auth-request-preferred-username x-forwarded-user x-forwarded-email x-forwarded-preferred-username x-consumer-id x-consumer-username ' +
      'x-consumer-custom-id x-credential-identifier x-client-id x-ms-client-principal-id x-ms-client-principal-name x-ms-client-principal-idp ' +
      'x-goog-authenticated-user-id x-goog-authenticated-user-email x-amzn-oidc-identity cf-access-authenticated-user-email tailscale-user-login ' +
      'x-authentik-uid x-authentik-username x-pomerium-claim-sub x-pomerium-claim-email x-hasura-user-id x-hasura-role x-ssl-client-s-dn ' +
      'ssl-client-subject-dn x-client-dn x-amzn-mtls-clientcert-subject',
  ),
]);

/**
 * Cookies that sessions and tokens are kept in, without the prefixes `__Host-` and `__Secure-` and
 * the number of a part.
 */
export const SESSION_COOKIES: ReadonlySet<string> = new Set(
  (
    'connect.sid connect.sess session sessionid session_id session-id session_token session-token sessiontoken sid ssid jsessionid phpsessid ' +
    'asp.net_sessionid .aspnetcore.session .aspnetcore.cookies laravel_session ci_session rack.session _session_id __session appsession user_session ' +
    'koa.sess koa:sess express:sess express.sid sails.sid adonis-session iron-session hapi-session sso auth auth_token auth-token authtoken authentication ' +
    'authorization token access_token access-token accesstoken id_token id-token idtoken refresh_token refresh-token refreshtoken jwt user_token ' +
    'next-auth.session-token authjs.session-token better-auth.session_token saccesstoken srefreshtoken wos-session stytch_session stytch_session_jwt ' +
    'ory_kratos_session kratos_session keycloak_identity wp_session api_key apikey remember_token'
  ).split(' '),
);

const MAX_HOSTS = 500;
const hosts = new Map<string, string>();

/**
 * In lower case, without port, final dot and spaces; several proxies write several. Kept, since
 * most requests ask for the same.
 */
export function hostName(host: string): string {
  const known = hosts.get(host);
  if (known !== undefined) return known;
  const name = host
    .toLowerCase()
    .split(',')
    .map((one) => one.trim().replace(/:\d*$/, '').replace(/\.$/, ''))
    .join();
  // Clients make them up: what they send must not fill memory.
  if (hosts.size >= MAX_HOSTS) hosts.clear();
  hosts.set(host, name);
  return name;
}

/** The host that a proxy was asked for, of the Forwarded header (RFC 7239). */
export const forwardedHost = (forwarded: string): string | undefined =>
  /(?:^|[;,\s])host="?([^";,\s]+)/i.exec(forwarded)?.[1];
