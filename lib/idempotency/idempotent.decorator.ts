import { UseFilters, UseInterceptors } from '@nestjs/common';
import type { Observable } from 'rxjs';
import { DEFAULT_REGISTRATION } from '../atomic-redis.constants.js';
import { isReplaced } from '../method-wrapping/replaced-service.js';
import { siteOf } from '../method-wrapping/method-site.js';
import { wrapMethod, type CheckedMethodDecorator } from '../method-wrapping/wrap-method.js';
import { callOverHttp, captureOptions } from './http/decorated-route.js';
import { HandlerCalls, markOurs, refuseEvents } from './http/http-exchange.js';
import { ReplayFilter } from './http/replay-filter.js';
import { markIdempotent, type IdempotentMark } from './idempotent-mark.js';
import {
  checkIdempotentOptions,
  type AnyIdempotentOptions,
  type IdempotentOptions,
} from './idempotent.options.js';
import { callByArguments } from './decorated-method.js';
import { IdempotencyService } from './idempotency.service.js';
import { HandlerKinds } from './messages/handler-kind.js';
import { callByReplacement } from './replaced-call.js';

/** Stands for the arguments of a key callback where there is none. */
type NoKey = unknown[];

/**
 * Nest awaits what a route returns; a method with a key of its own is called by others, which get a
 * promise.
 */
type ReturnedUnder<KeyArgs extends unknown[]> = NoKey extends KeyArgs
  ? unknown
  : PromiseLike<unknown> | Observable<unknown>;

/**
 * Runs the method once for each idempotency key, and answers every later call with the result of
 * the first.
 *
 * On a route the key comes from the `Idempotency-Key` header and the result is the response as it
 * went over the wire; guards and pipes come first. GET, HEAD and OPTIONS requests pass through,
 * unless `key` is given. On any other method of a provider, `key` takes it from the arguments, and
 * the result is the returned JSON value. The method then returns a promise.
 *
 * ```ts
 * @Post() @Idempotent() create(@Body() dto: CreateOrderDto) { … }
 * @Idempotent({ operation: 'orders.ship', key: (job: ShipOrder) => job.orderId }) async ship(job: ShipOrder) { … }
 * ```
 *
 * A call inside a run that needs no other key is part of that run: `super.create()` in a route's
 * handler, or a call with the very key of the run it is made in.
 *
 * @throws InvalidArgumentError at once for a wrong option; the application does not boot
 * (`ConfigurationError`) with an `@Sse()` route, with a method that is no route and lacks `key` or
 * `operation`, nor with two methods or two instances of one operation; a call throws what
 * `IdempotencyService.run` does; over HTTP also `IdempotencyKeyMissingError` or
 * `IdempotencyKeyInvalidError`, and `ConfigurationError` for a `request.user` without a recognised
 * id, which needs `scope`
 */
export function Idempotent<
  KeyArgs extends unknown[] = NoKey,
  ScopeArgs extends unknown[] = [],
  Instance extends object = object,
>(
  options: IdempotentOptions<KeyArgs, ScopeArgs, Instance> = {},
): CheckedMethodDecorator<KeyArgs, ScopeArgs, Instance, ReturnedUnder<KeyArgs>> {
  checkIdempotentOptions('@Idempotent', options);
  return (target, key, descriptor) => {
    const interceptor = markOurs(new HandlerCalls());
    const kinds = new HandlerKinds(String(key));
    const { name: registration = DEFAULT_REGISTRATION } = options;
    const { headers, required, onDuplicate, onUnavailable } = options;
    const site = siteOf('Idempotent', target, key);
    const captureOf = captureOptions(options);
    const mark: IdempotentMark = {
      registration,
      operation: options.operation,
      hasKey: options.key !== undefined,
      site,
      routes: new WeakSet(),
      interceptor,
      headers,
      required,
      onDuplicate,
      onUnavailable,
    };
    wrapMethod(
      {
        decorator: 'Idempotent',
        name: options.name,
        around: ({ idempotency }, call) => {
          const from = interceptor.current();
          const decorated = { idempotency, options: options as AnyIdempotentOptions, captureOf, call, site };
          if (isReplaced(idempotency, IdempotencyService))
            return callByReplacement(decorated, typeof from === 'object' ? from.exchange.request : undefined);
          if (typeof from === 'object') return callOverHttp(decorated, from);
          const isRoute = mark.routes.has(Object.getPrototypeOf(call.instance) as object);
          return callByArguments(decorated, {
            kinds,
            interceptor,
            lacksRequest: isRoute && from === undefined,
          });
        },
      },
      target,
      key,
      descriptor,
    );
    const method = descriptor.value as object;
    markIdempotent(method, mark);
    refuseEvents(method, `${target.constructor.name}.${String(key)}`);
    UseInterceptors(interceptor)(target, key, descriptor);
    UseFilters(replayFilter)(target, key, descriptor);
  };
}

const replayFilter = markOurs(new ReplayFilter());
