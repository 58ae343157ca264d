import type { Observable } from 'rxjs';
import { DEFAULT_REGISTRATION } from '../atomic-redis.constants.js';
import { siteOf, type MethodCall } from '../method-wrapping/method-site.js';
import { wrapMethod, type CheckedMethodDecorator } from '../method-wrapping/wrap-method.js';
import type { LimitService } from './limit.service.js';
import { limitAtEntry } from './rate-limit-guard.js';
import { markRateLimit, takesAtEntry, type RateLimitMark } from './rate-limit-mark.js';
import { resolveRateLimit, type RateLimitOptions, type ResolvedRateLimit } from './rate-limit.options.js';
import { RateLimiter } from './rate-limiter.js';

/** Stands for the arguments of callbacks where there are none. */
type None = unknown[];

/** Nest awaits what a route returns; other methods are called by code that then gets a promise. */
type Returned<KeyArgs extends unknown[]> = None extends KeyArgs
  ? unknown
  : PromiseLike<unknown> | Observable<unknown>;

/**
 * Limits how often a method is called, over all processes, by `LimitService`. A call that is
 * refused does not run; over HTTP it is answered with 429, `Retry-After` and the fields `RateLimit`
 * and `RateLimit-Policy`. Redis that cannot be reached refuses calls, too, with 503.
 *
 * On routes and resolvers it takes before the method's guards and pipes run, for each caller: the
 * one that a guard of the class or the application attached to the request, else `request.ip`.
 * Calls by other code than Nest's router are then not limited. On any other method of a provider,
 * and on resolvers of fields, `key` tells callers apart, and the method returns a promise.
 *
 * ```ts
 * @Post('sign-in') @RateLimit({ limits: [{ limit: 5, perMs: 60_000 }, { limit: 50, perMs: 86_400_000, algorithm: 'fixed' }] })
 * signIn() {}
 *
 * @RateLimit({ key: (partner: string) => `partner:${partner}`, limits: { limit: 10, perMs: 1_000, algorithm: 'sliding' } })
 * async callPartner(partner: string) {}
 * ```
 *
 * It stands above all other decorators of this library.
 *
 * @throws InvalidArgumentError at once for a wrong option; the application does not boot
 * (`ConfigurationError`) with a method that is no route or resolver and lacks `key`, or with a
 * route in the phase `guard` that is a message handler too; a call throws `LimitExceededError`, and
 * what `LimitService.take` does
 */
export function RateLimit<KeyArgs extends unknown[] = None, CostArgs extends unknown[] = []>(
  options: RateLimitOptions<KeyArgs, CostArgs>,
): CheckedMethodDecorator<KeyArgs, CostArgs, object, Returned<KeyArgs>> {
  const resolved = resolveRateLimit(options);
  const limiter = new RateLimiter(resolved);
  return (target, methodKey, descriptor) => {
    const site = siteOf('RateLimit', target, methodKey);
    const mark: RateLimitMark = {
      registration: resolved.name ?? DEFAULT_REGISTRATION,
      site,
      phase: resolved.phase,
      hasKey: resolved.key !== undefined,
      operations: new WeakMap(),
      isEntry: undefined,
    };
    wrapMethod(
      {
        decorator: 'RateLimit',
        name: resolved.name,
        around: ({ limits }, call) => {
          // The guard has taken.
          if (takesAtEntry(mark, method)) return call.proceed();
          return limited(limiter, resolved, limits, call);
        },
      },
      target,
      methodKey,
      descriptor,
    );
    const method = descriptor.value as object;
    markRateLimit(method, mark);
    if (resolved.phase === 'guard') limitAtEntry(limiter, resolved, mark, method);
  };
}

async function limited(
  limiter: RateLimiter,
  { key, cost }: ResolvedRateLimit,
  service: LimitService,
  call: MethodCall,
): Promise<unknown> {
  const { settle } = await limiter.admit(
    service,
    typeof key === 'function' ? key(...call.args) : key!,
    typeof cost === 'function' ? cost(...call.args) : cost,
  );
  if (!settle) return await call.proceed();
  let result: unknown;
  try {
    result = await call.proceed();
  } catch (error) {
    await settle(error);
    throw error;
  }
  await settle();
  return result;
}
