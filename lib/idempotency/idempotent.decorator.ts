import { UseInterceptors } from '@nestjs/common';
import { ConfigurationError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import {
  nameOf,
  wrapMethod,
  type CheckedMethodDecorator,
  type MethodSite,
} from '../method-wrapping/wrap-method.js';
import { HttpExchangeInterceptor, type HttpExchange } from './http/http-exchange.js';
import { callerOf, keyFromHeader, payloadOf } from './http/http-request.js';
import { answer } from './http/idempotent-exchange.js';
import { IdempotencyKeyMissingError } from './idempotency.errors.js';
import {
  idempotencyCallChecks,
  type IdempotencyOptions,
  type IdempotencyService,
} from './idempotency.service.js';

export interface IdempotentOptions<KeyArgs extends unknown[], ScopeArgs extends unknown[]> extends Omit<
  IdempotencyOptions,
  'scope' | 'fingerprint' | 'colocateWith'
> {
  /** The key, from the method's arguments. Default, on a route: the request's header. */
  key?: (...args: KeyArgs) => string;
  /** Separates equal keys of different callers, from the method's arguments. Default: the caller on a route, none elsewhere. */
  scope?: (...args: ScopeArgs) => string;
  /**
   * On a Cluster: a key, from the method's arguments, whose hash slot the record is put into; see `IdempotencyOptions.colocateWith`.
   */
  colocateWith?: (...args: ScopeArgs) => string;
  /** The request header that holds the key. @default 'Idempotency-Key' */
  header?: string;
  /** Whether a request without a key is refused; else it runs unprotected. Default: the module's `idempotency.required`. */
  required?: boolean;
  /** The registration to use. Default: the unnamed one. */
  name?: string;
}

const checkOptions = check.options({
  ...idempotencyCallChecks,
  key: check.func,
  scope: check.func,
  colocateWith: check.func,
  header: check.nonEmptyString,
  required: check.boolean,
  name: check.nonEmptyString,
});

/**
 * Runs the method once for each idempotency key, and answers every later call with the result of the first.
 *
 * On a route the key comes from the `Idempotency-Key` header and the result is the response as it went over the wire; guards and
 * pipes come first. On any other method of a provider, `key` takes it from the arguments, and the result is the returned JSON value.
 * The method then returns a promise.
 *
 * ```ts
 * @Post() @Idempotent() create(@Body() dto: CreateOrderDto) { … }
 * @Idempotent({ key: (job: ShipOrder) => job.orderId }) async ship(job: ShipOrder) { … }
 * ```
 *
 * @throws InvalidArgumentError at once for a wrong option; a call throws what `IdempotencyService.run` does, and
 * `IdempotencyKeyMissingError` or `IdempotencyKeyInvalidError` over HTTP
 */
export function Idempotent<KeyArgs extends unknown[] = [], ScopeArgs extends unknown[] = []>(
  options: IdempotentOptions<KeyArgs, ScopeArgs> = {},
): CheckedMethodDecorator<KeyArgs, ScopeArgs> {
  checkOptions('@Idempotent', options);
  return (target, key, descriptor) => {
    const exchanges = new HttpExchangeInterceptor();
    wrapMethod(
      {
        decorator: 'Idempotent',
        name: options.name,
        around: ({ idempotency }, call, site) => {
          const exchange = exchanges.take();
          if (exchange)
            return overHttp(
              idempotency,
              exchange,
              options as AnyOptions,
              call.args,
              () => call.proceed(),
              site,
            );
          if (!options.key) {
            throw new ConfigurationError(
              `${nameOf(site)} was called outside of an HTTP request, so its idempotency key must come from its arguments: @Idempotent({ key: (…) => … })`,
            );
          }
          const run = (): unknown => call.proceed();
          return idempotency.run(options.key(...(call.args as KeyArgs)), run, {
            ...callOptions(options as AnyOptions, call.args, site),
            scope: options.scope?.(...(call.args as ScopeArgs)),
          });
        },
      },
      target,
      key,
      descriptor,
    );
    UseInterceptors(exchanges)(target, key, descriptor);
  };
}

type AnyOptions = IdempotentOptions<unknown[], unknown[]>;

async function overHttp(
  idempotency: IdempotencyService,
  exchange: HttpExchange,
  options: AnyOptions,
  args: unknown[],
  handler: () => unknown,
  site: MethodSite,
): Promise<unknown> {
  const { request } = exchange;
  const header = options.header ?? 'Idempotency-Key';
  const key = options.key ? options.key(...args) : keyFromHeader(request, header);
  if (key === undefined) {
    if (options.required ?? idempotency.defaults.required)
      throw new IdempotencyKeyMissingError(`The request needs an ${header} header`);
    return await handler();
  }
  check.key('key', key);
  const claim = await idempotency.claim(key, {
    ...callOptions(options, args, site),
    scope: options.scope?.(...args) ?? callerOf(request),
    fingerprint: payloadOf(request),
  });
  return await answer(exchange, claim, handler, {
    maxResultBytes: idempotency.defaults.maxResultBytes,
    onError: options.onError,
  });
}

function callOptions(options: AnyOptions, args: unknown[], site: MethodSite): IdempotencyOptions {
  const { ttlMs, leaseMs, timeoutMs, onError, propagation } = options;
  const colocateWith = options.colocateWith?.(...args);
  const operation = options.operation ?? nameOf(site);
  return { ttlMs, leaseMs, timeoutMs, onError, propagation, colocateWith, operation };
}
