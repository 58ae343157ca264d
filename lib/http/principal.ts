import { ConfigurationError, describe } from '../atomic-redis.errors.js';

/** Properties that identify a principal, best first; as {@link plainName} writes them. */
const IDS = (
  'id sub userid uid _id useruuid uuid guid oid objectidentifier nameid nameidentifier ' +
  'username preferredusername login upn userprincipalname samaccountname ' +
  'email emailaddress mail dn userarn principalid'
).split(' ');

/** Ids that mean the session itself where a session has them. */
const IDS_OF_SESSION = new Set(['id', '_id', 'uuid', 'guid', 'oid']);

/**
 * Properties within which alone an id is unique: issuer, provider, kind, tenant, and the actor
 * behind the principal.
 */
const REALMS = new Set(
  (
    'iss issuer realm provider authprovider identityprovider idp signinprovider strategy ' +
    'kind type usertype accounttype principaltype actortype ' +
    'tenant tenantid tenantuuid tenantslug tid org orgid orguuid orgslug orgcode organization organizationid organisation organisationid o dct ' +
    'account accountid workspace workspaceid company companyid team teamid store storeid shop shopid merchant merchantid ' +
    'site siteid project projectid business businessid client clientid customer customerid school schoolid ' +
    'act actor actorid impersonator impersonatorid impersonatedby actingfor onbehalfof'
  ).split(' '),
);

/**
 * Properties under which a principal without an id of its own has the one that counts, best first.
 */
const INNER = [
  ...['user', 'passport', 'payload', 'claims', 'profile', '_json'],
  ...['jwt', 'lambda', 'iam', 'credentials', 'principal', 'data'],
];

/** Properties that hold realms beside the id. */
const REALM_HOLDERS = new Set(['firebase', 'appmetadata']);

/** A principal in an authorizer in a claim set in a token: enough for all that is usual. */
const MAX_DEPTH = 4;

/** Principal ids that the samples of AWS give to everybody. */
const SAMPLE_IDS = new Set(['user', 'me', 'anonymous']);

type Role =
  | { readonly kind: 'id' | 'inner'; readonly rank: number; readonly plain: string }
  | { readonly kind: 'realm' | 'holder' | 'none' };

const NONE: Role = { kind: 'none' };

const MAX_ROLES = 2_000;
const roles = new Map<string, Role>();

/**
 * Without namespace and separators: `tenant_id`, `custom:tenantId` and
 * `https://example.com/tenant-id` are one.
 */
const plainName = (name: string): string =>
  name
    .slice(Math.max(name.lastIndexOf('/'), name.lastIndexOf(':')) + 1)
    .replace(/(?<=.)[-_. ]/g, '')
    .toLowerCase();

function roleOf(name: string): Role {
  const known = roles.get(name);
  if (known) return known;
  const plain = plainName(name);
  let role = NONE;
  if (IDS.includes(plain)) role = { kind: 'id', rank: IDS.indexOf(plain), plain };
  else if (INNER.includes(plain)) role = { kind: 'inner', rank: INNER.indexOf(plain), plain };
  else if (REALMS.has(plain)) role = { kind: 'realm' };
  else if (REALM_HOLDERS.has(plain)) role = { kind: 'holder' };
  // Names come from the application's own objects and from tokens. Made-up names must not fill
  // memory.
  if (roles.size < MAX_ROLES) roles.set(name, role);
  return role;
}

/**
 * Names of accessors of a class that have a role: fields of models of Mongoose and Sequelize are
 * such.
 */
const accessors = new WeakMap<object, readonly string[]>();

function accessorsOf(prototype: object): readonly string[] {
  let names = accessors.get(prototype);
  if (!names) {
    const found = new Set<string>();
    for (
      let at: object | null = prototype;
      at && at !== Object.prototype;
      at = Object.getPrototypeOf(at) as object | null
    ) {
      for (const [name, descriptor] of Object.entries(Object.getOwnPropertyDescriptors(at)))
        if (descriptor.get && roleOf(name).kind !== 'none') found.add(name);
    }
    accessors.set(prototype, (names = [...found]));
  }
  return names;
}

function namesOf(object: object): readonly string[] {
  const own = Object.keys(object);
  const prototype = Object.getPrototypeOf(object) as object | null;
  if (prototype === null || prototype === Object.prototype) return own;
  const inherited = accessorsOf(prototype);
  return inherited.length > 0 ? [...own, ...inherited] : own;
}

/**
 * A principal by its id and the realms that the id belongs to; undefined where it has none.
 *
 * @param isSession the object is a session, whose own id is not that of its user
 * @throws ConfigurationError for a realm that cannot be told from others
 */
export function nameOfPrincipal(principal: unknown, isSession = false): readonly string[] | undefined {
  const simple = simpleValue(principal);
  if (simple !== undefined) return [simple];
  return typeof principal === 'object' && principal !== null
    ? nameInside(principal, isSession, 1)
    : undefined;
}

function nameInside(object: object, isSession: boolean, depth: number): readonly string[] | undefined {
  const fields = object as Readonly<Record<string, unknown>>;
  let id: string | undefined;
  let idRank = Infinity;
  let realms: string[] | undefined;
  let inner: { readonly name: string; readonly rank: number }[] | undefined;
  for (const name of namesOf(object)) {
    const role = roleOf(name);
    if (role.kind === 'none') continue;
    if (role.kind === 'id') {
      if (role.rank >= idRank || (isSession && IDS_OF_SESSION.has(role.plain))) continue;
      const value = simpleValue(fields[name]);
      if (value === undefined || (role.plain === 'principalid' && SAMPLE_IDS.has(String(fields[name]))))
        continue;
      id = `${name}=${value}`;
      idRank = role.rank;
    } else if (role.kind === 'inner') (inner ??= []).push({ name, rank: role.rank });
    else if (role.kind === 'realm') addRealm((realms ??= []), name, fields[name]);
    else addRealmsWithin((realms ??= []), name, fields[name]);
  }
  const found = id === undefined ? inner && innerName(fields, inner, depth) : [id];
  if (!found) return undefined;
  if (!realms) return found;
  return realms.length > 1 ? [...found, ...realms.toSorted()] : [...found, ...realms];
}

function innerName(
  fields: Readonly<Record<string, unknown>>,
  inner: { readonly name: string; readonly rank: number }[],
  depth: number,
): readonly string[] | undefined {
  for (const { name } of inner.toSorted((one, other) => one.rank - other.rank)) {
    const value = fields[name];
    const simple = simpleValue(value);
    if (simple !== undefined) return [`${name}=${simple}`];
    if (typeof value !== 'object' || value === null || depth >= MAX_DEPTH) continue;
    const found = nameInside(value, false, depth + 1);
    if (found) return found;
  }
  return undefined;
}

function addRealmsWithin(realms: string[], holder: string, value: unknown): void {
  if (typeof value !== 'object' || value === null) return;
  for (const [name, realm] of Object.entries(value))
    if (roleOf(name).kind === 'realm') addRealm(realms, `${holder}.${name}`, realm);
}

function addRealm(realms: string[], name: string, value: unknown): void {
  if (value === undefined || value === null || value === '' || value === false || typeof value === 'function')
    return;
  const realm = realmOf(value);
  if (realm === undefined) throw unrecognised(`its ${name} is ${describe(value)}`);
  realms.push(`${name}=${realm}`);
}

/** A realm by its value, or by the id that it has as an object; a list by all in it. */
export function realmOf(value: unknown): string | undefined {
  if (value === true) return 'boolean:true';
  const simple = simpleValue(value);
  if (simple !== undefined || typeof value !== 'object' || value === null) return simple;
  if (Array.isArray(value)) {
    const all = value.flatMap((one) => realmOf(one) ?? []);
    return all.length > 0 && all.length === value.length ? JSON.stringify(all.toSorted()) : undefined;
  }
  const fields = value as Readonly<Record<string, unknown>>;
  let found: string | undefined;
  let foundRank = Infinity;
  for (const name of namesOf(value)) {
    const role = roleOf(name);
    // `organization: { organization_id }` goes by that.
    const rank = role.kind === 'id' ? role.rank : role.kind === 'realm' ? IDS.length : Infinity;
    if (rank >= foundRank) continue;
    const part = simpleValue(fields[name]);
    if (part === undefined) continue;
    found = `${name}=${part}`;
    foundRank = rank;
  }
  return found;
}

/** A string or number with its type, or what JSON writes as one: the id objects of databases. */
function simpleValue(value: unknown): string | undefined {
  switch (typeof value) {
    case 'string':
      return value === '' ? undefined : `string:${value}`;
    case 'number':
      return Number.isFinite(value) ? `number:${value}` : undefined;
    case 'bigint':
      return `bigint:${value}`;
    case 'object': {
      if (value === null || !('toJSON' in value) || typeof value.toJSON !== 'function') return undefined;
      const json: unknown = value.toJSON();
      return typeof json === 'object' ? undefined : simpleValue(json);
    }
    default:
      return undefined;
  }
}

export const unrecognised = (found: string): ConfigurationError =>
  new ConfigurationError(
    `This caller cannot be told from others: ${found}. Say how to: @Idempotent({ scope: (…) => … }), ` +
      `idempotency: { scope: (request) => … } of the module, or @RateLimit({ requestKey: (request) => … })`,
  );
