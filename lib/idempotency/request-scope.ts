import { ConfigurationError, describe } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { callerOf, type Caller } from './http/caller.js';
import type { HttpRequest } from '../http/http-request.js';
import { IdempotencyCallerUnknownError } from './idempotency.errors.js';
import type { ResolvedIdempotencyOptions } from './idempotency.options.js';

/** The sources of a call's scope. */
export interface ScopeSource {
  /** The decorator's callback, called with the method's arguments. */
  readonly scope: ((...args: unknown[]) => string | Promise<string>) | undefined;
  readonly requireCaller: boolean | undefined;
  readonly defaults: Pick<ResolvedIdempotencyOptions, 'scope' | 'requireCaller'>;
  /** The decorated method, for messages. */
  readonly nameOf: () => string;
}

/**
 * The scope that the decorator gives; undefined where it gives none.
 * @throws ConfigurationError for anything but a non-empty string
 */
export const scopeOfArguments = (
  { scope, nameOf }: Pick<ScopeSource, 'scope' | 'nameOf'>,
  args: unknown[],
): Promise<string> | undefined =>
  scope && checked(scope(...args), () => `scope of @Idempotent() on ${nameOf()}`);

/**
 * Returns the caller of a request: a promise of the scope if the application has one, else the
 * caller that the library finds in the request.
 *
 * @throws ConfigurationError for a wrong scope, and for a principal that cannot be told from others
 * @throws IdempotencyCallerUnknownError when a caller is required, and there is none
 */
export function callerOfRequest(
  source: ScopeSource,
  args: unknown[],
  request: HttpRequest,
): Promise<string> | Caller {
  const { requireCaller, defaults } = source;
  const given =
    scopeOfArguments(source, args) ??
    (defaults.scope && checked(defaults.scope(request), () => 'idempotency.scope of the module'));
  if (given) return given;
  const caller = callerOf(request);
  if (!caller.isKnown && (requireCaller ?? defaults.requireCaller)) throw new IdempotencyCallerUnknownError();
  return caller;
}

async function checked(given: string | Promise<string>, sourceOf: () => string): Promise<string> {
  const scope: unknown = await given;
  if (check.isText(scope)) return scope;
  throw new ConfigurationError(
    `${sourceOf()} must return a non-empty string, and returned ${describe(scope)}: callers would be confused with each other. ` +
      `Give callers without a name of their own one for all of them, such as 'guest', or refuse them in a guard`,
  );
}
