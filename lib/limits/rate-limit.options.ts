import { ConfigurationError, InvalidArgumentError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import type { HttpRequest } from '../http/http-request.js';
import { checkedLimit, checkedLimits, type Limit } from './limit.js';

/** One limit of `@RateLimit`. @inline */
export interface RateLimitRule extends Pick<Limit, 'limit' | 'perMs' | 'algorithm' | 'burst'> {
  /**
   * In place of the call's key, for a limit that all callers share. On a Cluster it must share the
   * slot of the others.
   */
  key?: string;
  /**
   * Names the limit to clients, in the `RateLimit` fields: printable ASCII. Default: `default`, or
   * `limit-1`, `limit-2`, … of several.
   */
  policy?: string;
}

/** Options of `@RateLimit`. */
export interface RateLimitOptions<KeyArgs extends unknown[] = [], CostArgs extends unknown[] = []> {
  /** One limit or several, of which a call takes from all or from none. */
  limits: RateLimitRule | readonly RateLimitRule[];
  /**
   * Tells callers apart: text that all share, or a callback that takes the method's arguments; a
   * callback needs the phase `method`. Default, on routes and resolvers: the route and the name of
   * the caller that the server attached to the request, else `request.ip`.
   */
  key?: string | ((...args: KeyArgs) => string);
  /**
   * As `key`, from the request, on routes and resolvers in the phase `guard`. It must not return an
   * unchecked secret of the client.
   */
  requestKey?: (request: HttpRequest) => string | Promise<string>;
  /**
   * The amount that a call takes, or a callback that takes the method's arguments, which needs the
   * phase `method`.
   * @default 1
   */
  cost?: number | ((...args: CostArgs) => number);
  /**
   * - `guard`: before the guards of the method and its pipes, so that it slows down attempts to
   *   sign in, too. Routes and resolvers only.
   * - `method`: after guards and pipes, around the method.
   *
   * Default: `guard` on routes and resolvers, unless `key` or `cost` is a callback.
   */
  phase?: 'guard' | 'method';
  /**
   * Fate of what was taken when the call fails: `refund` gives it back. It takes one more round
   * trip.
   * @default 'keep'
   */
  onError?: 'keep' | 'refund';
  /**
   * With `onError: 'refund'`: a call that takes longer, in milliseconds, has cost nothing.
   * @default 60000
   */
  refundTtlMs?: number;
  /** Time for the call to Redis, in milliseconds. Default: the module's `timeoutMs`. */
  timeoutMs?: number;
  /** The registration to use. Default: the unnamed one. */
  name?: string;
}

/** Stands for the key of a call where limits are checked beforehand. */
const CALLER = 'the caller';

const POLICY = /^[ !#-[\]-~]{1,64}$/;

const checkPolicy: check.Check = (path, value) => {
  if (typeof value !== 'string' || !POLICY.test(value))
    throw new InvalidArgumentError(path, '1 to 64 printable ASCII characters without " and \\', value);
};

const checkRateLimitOptions = check.options({
  limits: () => undefined,
  key: check.either('a key or a function', check.key, check.func),
  requestKey: check.func,
  cost: check.either('an integer from 1 or a function', check.integer(1), check.func),
  phase: check.oneOf('guard', 'method'),
  onError: check.oneOf('keep', 'refund'),
  refundTtlMs: check.milliseconds(),
  timeoutMs: check.waitMs(),
  name: check.nonEmptyString,
} satisfies Record<keyof RateLimitOptions, check.Check>);

/** The options, checked, with what follows from them. */
export interface ResolvedRateLimit {
  readonly rules: readonly { readonly name: string; readonly limit: Omit<RateLimitRule, 'policy'> }[];
  readonly key: string | ((...args: unknown[]) => string) | undefined;
  readonly requestKey: RateLimitOptions['requestKey'];
  readonly cost: number | ((...args: unknown[]) => number);
  /** On routes and resolvers; elsewhere it is `method`. */
  readonly phase: 'guard' | 'method';
  readonly refundTtlMs: number | undefined;
  readonly call: { readonly timeoutMs?: number };
  readonly name: string | undefined;
}

/** @throws InvalidArgumentError, LimitCostError, ConfigurationError */
export function resolveRateLimit<K extends unknown[], C extends unknown[]>(
  options: RateLimitOptions<K, C>,
): ResolvedRateLimit {
  checkRateLimitOptions('@RateLimit', options);
  const { key, requestKey, cost = 1, onError = 'keep', refundTtlMs = 60_000, timeoutMs, name } = options;
  const takesArguments = typeof key === 'function' || typeof cost === 'function';
  const { phase = takesArguments ? 'method' : 'guard' } = options;
  if (phase === 'guard' && takesArguments)
    throw new InvalidArgumentError(
      '@RateLimit.phase',
      "'method' where key or cost is a callback, since a guard has no arguments yet. Use requestKey for a key from the request",
      phase,
    );
  if (phase === 'method' && requestKey)
    throw new InvalidArgumentError(
      '@RateLimit.requestKey',
      "absent in the phase 'method': use key",
      requestKey,
    );
  if (phase === 'method' && key === undefined)
    throw new ConfigurationError("@RateLimit() in the phase 'method' needs key: it tells the callers apart");
  if (key !== undefined && requestKey)
    throw new InvalidArgumentError('@RateLimit.requestKey', 'absent where there is a key', requestKey);
  return {
    rules: checkedRules(options.limits, typeof cost === 'number' ? cost : 1),
    key: key as ResolvedRateLimit['key'],
    requestKey,
    cost: cost as ResolvedRateLimit['cost'],
    phase,
    refundTtlMs: onError === 'refund' ? refundTtlMs : undefined,
    call: timeoutMs === undefined ? {} : { timeoutMs },
    name,
  };
}

function checkedRules(
  given: RateLimitRule | readonly RateLimitRule[],
  cost: number,
): ResolvedRateLimit['rules'] {
  const isList = Array.isArray(given);
  const rules = (isList ? given : [given]) as readonly RateLimitRule[];
  const limits = rules.map((rule, i) => {
    const path = isList ? `@RateLimit.limits[${i}]` : '@RateLimit.limits';
    if (typeof rule !== 'object' || rule === null) throw new InvalidArgumentError(path, 'a limit', rule);
    const { policy, ...limit } = rule;
    if (policy !== undefined) checkPolicy(`${path}.policy`, policy);
    checkedLimit(path, { ...limit, key: limit.key ?? CALLER, cost });
    const name = policy ?? (rules.length === 1 ? 'default' : `limit-${i + 1}`);
    return { name, limit };
  });
  checkedLimits(limits.map(({ limit }) => ({ ...limit, key: limit.key ?? CALLER, cost })));
  return limits;
}
