import { UseInterceptors } from '@nestjs/common';
import { DEFAULT_REGISTRATION } from '../atomic-redis.constants.js';
import { ConfigurationError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import {
  siteOf,
  wrapMethod,
  type CheckedMethodDecorator,
  type MethodCall,
  type MethodSite,
} from '../method-wrapping/wrap-method.js';
import { markIdempotent, operationName } from './boot-check.js';
import { isPartOfRun, isSameCall, withinCall } from './current-call.js';
import { HttpExchangeInterceptor, refuseEvents, type HttpExchange } from './http/http-exchange.js';
import { IDEMPOTENCY_HEADER, isSafe, keyFromHeader, routeOf } from './http/http-request.js';
import { payloadOf } from './http/request-payload.js';
import { claimOnce, replay, type RouteOptions } from './http/route-call.js';
import { IdempotencyKeyMissingError } from './idempotency.errors.js';
import { idempotencyCallChecks, type IdempotencyOptions } from './idempotency-call.options.js';
import type { IdempotencyService } from './idempotency.service.js';
import { callerOfRequest, scopeOfArguments, type ScopeSource } from './request-scope.js';

/** Of `@Idempotent`. The callbacks take the arguments of the method. */
export interface IdempotentOptions<KeyArgs extends unknown[], ScopeArgs extends unknown[]> extends Omit<
  IdempotencyOptions,
  'scope' | 'operation' | 'evidence' | 'fingerprint' | 'colocateWith'
> {
  /** The key, from the method's arguments. Default, on a route: the request's header. */
  key?: (...args: KeyArgs) => string;
  /**
   * Separates equal keys of different callers, from the method's arguments; it decides alone. Anything but a non-empty string is refused with a
   * `ConfigurationError`, so name guests too. Default, on a route: the module's `idempotency.scope`, else `callerScope(request)` and
   * `callerEvidence(request)`. Elsewhere: none.
   */
  scope?: (...args: ScopeArgs) => string | Promise<string>;
  /**
   * Names what the method does: `orders.create`. Equal keys of different operations are different. Default: the class and method, and on a
   * route the HTTP method and path pattern; a name of its own survives renaming them. Two methods of a registration with one operation would
   * answer each other's calls, and do not boot; nor do two subclasses that inherit one name. Two instances of one class are one
   * operation: where they must not be (a dynamic module registered for each tenant), give each call a `scope`.
   */
  operation?: string;
  /**
   * On a Cluster: a key, from the method's arguments, whose hash slot the record is put into; see `IdempotencyOptions.colocateWith`.
   */
  colocateWith?: (...args: ScopeArgs) => string;
  /**
   * The payload, or what tells it from another, from the method's arguments: the same key with another one is refused. Default, on a route: HTTP method, URL, body
   * and uploaded files; a body that was not parsed does not count. Elsewhere: not compared.
   */
  fingerprint?: (...args: ScopeArgs) => unknown;
  /** The request header that holds the key. @default 'Idempotency-Key' */
  header?: string;
  /** Whether a request without a key is refused; else it runs unprotected. Default: the module's `idempotency.required`. */
  required?: boolean;
  /** Whether a request that nothing tells from those of others is refused. Default: the module's `idempotency.requireCaller`. */
  requireCaller?: boolean;
  /** The registration to use. Default: the unnamed one. */
  name?: string;
}

const checkOptions = check.options({
  ...idempotencyCallChecks,
  key: check.func,
  scope: check.func,
  colocateWith: check.func,
  fingerprint: check.func,
  header: check.nonEmptyString,
  required: check.boolean,
  requireCaller: check.boolean,
  name: check.nonEmptyString,
});

/**
 * Runs the method once for each idempotency key, and answers every later call with the result of the first.
 *
 * On a route the key comes from the `Idempotency-Key` header and the result is the response as it went over the wire; guards and
 * pipes come first. GET, HEAD and OPTIONS requests pass through, unless `key` is given. On any other method of a provider, `key` takes it
 * from the arguments, and the result is the returned JSON value. The method then returns a promise.
 *
 * ```ts
 * @Post() @Idempotent() create(@Body() dto: CreateOrderDto) { … }
 * @Idempotent({ key: (job: ShipOrder) => job.orderId }) async ship(job: ShipOrder) { … }
 * ```
 *
 * A call inside a run that needs no other key is part of that run: `super.create()` in a route's handler, or a call with the very key of the
 * run it is made in.
 *
 * @throws InvalidArgumentError at once for a wrong option; the application does not boot (`ConfigurationError`) with an `@Sse()` route,
 * with a method that is no route and has no `key`, nor with two methods of one operation; a call throws what `IdempotencyService.run` does; over HTTP also `IdempotencyKeyMissingError` or `IdempotencyKeyInvalidError`, and
 * `ConfigurationError` for a `request.user` without a recognised id, which needs `scope`
 */
export function Idempotent<KeyArgs extends unknown[] = [], ScopeArgs extends unknown[] = []>(
  options: IdempotentOptions<KeyArgs, ScopeArgs> = {},
): CheckedMethodDecorator<KeyArgs, ScopeArgs> {
  checkOptions('@Idempotent', options);
  return (target, key, descriptor) => {
    const interceptor = new HttpExchangeInterceptor();
    const { name: registration = DEFAULT_REGISTRATION } = options;
    const { operation, header, required, onDuplicate, onUnavailable } = options;
    const site = siteOf('Idempotent', target, key);
    wrapMethod(
      {
        decorator: 'Idempotent',
        name: options.name,
        around: ({ idempotency }, call) => {
          const exchange = interceptor.current();
          const decorated = { idempotency, options: options as AnyOptions, call, site };
          return exchange ? overHttp(decorated, exchange) : byArguments(decorated);
        },
      },
      target,
      key,
      descriptor,
    );
    const method = descriptor.value as object;
    const described = { header, required, onDuplicate, onUnavailable };
    markIdempotent(method, {
      registration,
      operation,
      hasKey: options.key !== undefined,
      site,
      ...described,
    });
    refuseEvents(method, `${target.constructor.name}.${String(key)}`);
    UseInterceptors(interceptor)(target, key, descriptor);
  };
}

type AnyOptions = IdempotentOptions<unknown[], unknown[]>;

/** One call of a decorated method. */
interface IdempotentCall {
  readonly idempotency: IdempotencyService;
  readonly options: AnyOptions;
  readonly call: MethodCall;
  readonly site: MethodSite;
}

/** Async, so that what a callback throws rejects. */
async function overHttp(decorated: IdempotentCall, exchange: HttpExchange): Promise<unknown> {
  const { options, call, idempotency } = decorated;
  const { args } = call;
  const { request } = exchange;
  if (!options.key && isSafe(request)) return await call.proceed();
  const header = options.header ?? IDEMPOTENCY_HEADER;
  const key = options.key ? options.key(...args) : keyFromHeader(request, header);
  if (key === undefined) {
    if (options.required ?? idempotency.defaults.required)
      throw new IdempotencyKeyMissingError(`The request needs an ${header} header`);
    return await call.proceed();
  }
  check.key('key', key);
  const claimed = await claimOnce(idempotency, exchange, key, () => {
    const ofCall = {
      operation: operationOf(decorated, (name) => `${name} ${routeOf(request)}${exchange.route.version}`),
      colocateWith: options.colocateWith?.(...args),
      fingerprint: options.fingerprint ? (options.fingerprint(...args) ?? null) : payloadOf(request),
    };
    const caller = callerOfRequest(scopeSourceOf(decorated), args, request);
    return caller instanceof Promise
      ? caller.then((scope) => runOptions(options, ofCall, scope, undefined))
      : runOptions(options, ofCall, caller.scope, caller.evidence);
  });
  return claimed.kind === 'run'
    ? await claimed.run.handle(() => call.proceed())
    : claimed.read((result) => replay(exchange, result, options.codec ?? idempotency.defaults.codec));
}

async function byArguments(decorated: IdempotentCall): Promise<unknown> {
  const { options, call, idempotency, site } = decorated;
  const { args } = call;
  if (!options.key) {
    if (isPartOfRun(idempotency, (run) => run.exchange !== undefined)) return await call.proceed();
    throw new ConfigurationError(
      `${operationName(call.instance.constructor, site)} was called by other code than Nest for a request of its own, so its idempotency key must come from its arguments: @Idempotent({ key: (…) => … })`,
    );
  }
  const key = options.key(...args);
  const scope = (await scopeOfArguments(scopeSourceOf(decorated), args)) ?? '';
  const operation = operationOf(decorated, (name) => name);
  const colocateWith = options.colocateWith?.(...args);
  const fingerprint = options.fingerprint && (options.fingerprint(...args) ?? null);
  const name = { scope, operation, key };
  if (isPartOfRun(idempotency, (run) => isSameCall(run.name, name))) return await call.proceed();

  const running = { kind: 'run' as const, idempotency, name, exchange: undefined, isRunning: true };
  try {
    const asked = runOptions(options, { operation, colocateWith, fingerprint }, scope, undefined);
    return await idempotency.run(key, () => withinCall(running, () => call.proceed()), asked);
  } finally {
    running.isRunning = false;
  }
}

/** What is known of one call only. */
type OfCall = Pick<EveryOption, 'operation' | 'colocateWith' | 'fingerprint'>;

/** With no option left out. */
type EveryOption = { [Name in keyof Required<RouteOptions>]: RouteOptions[Name] };

/** What goes to the service: the decorator's options as they are, and what belongs to the call. Written out, since a spread of as many fields costs more than a hash. */
const runOptions = (
  options: AnyOptions,
  { operation, colocateWith, fingerprint }: OfCall,
  scope: string,
  evidence: string | undefined,
): EveryOption => ({
  operation,
  scope,
  evidence,
  colocateWith,
  fingerprint,
  ttlMs: options.ttlMs,
  leaseMs: options.leaseMs,
  maxRunMs: options.maxRunMs,
  timeoutMs: options.timeoutMs,
  onDuplicate: options.onDuplicate,
  waitTimeoutMs: options.waitTimeoutMs,
  onUnavailable: options.onUnavailable,
  codec: options.codec,
  durability: options.durability,
  onError: options.onError,
  propagation: options.propagation,
});

const scopeSourceOf = ({ options, idempotency, call, site }: IdempotentCall): ScopeSource => ({
  scope: options.scope,
  requireCaller: options.requireCaller,
  defaults: idempotency.defaults,
  nameOf: () => operationName(call.instance.constructor, site),
});

/** @param byDefault makes it of class and method: `OrdersService.create` */
function operationOf(
  { options, call, idempotency, site }: IdempotentCall,
  byDefault: (name: string) => string,
): string {
  const type = call.instance.constructor;
  const name = operationName(type, site);
  const operation = options.operation ?? byDefault(name);
  idempotency.operations.claim(operation, { type, name });
  return operation;
}
