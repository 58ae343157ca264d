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
import { callerScope } from './http/caller.js';
import { HttpExchangeInterceptor, refuseEvents, type HttpExchange } from './http/http-exchange.js';
import { IDEMPOTENCY_HEADER, isSafe, keyFromHeader, payloadOf, routeOf } from './http/http-request.js';
import { claimOnce, replay, type RouteOptions } from './http/route-call.js';
import { IdempotencyKeyMissingError } from './idempotency.errors.js';
import { keyText } from './key-text.js';
import { HandlerKinds } from './messages/handler-kind.js';
import { readingMessage, runForMessage } from './messages/message-call.js';
import { messageFor } from './messages/message-context.js';
import { idempotencyCallChecks, type IdempotencyOptions } from './idempotency-call.options.js';
import type { IdempotencyService } from './idempotency.service.js';

/** Of `@Idempotent`. The callbacks take the arguments of the method. */
export interface IdempotentOptions<KeyArgs extends unknown[], ScopeArgs extends unknown[]> extends Omit<
  IdempotencyOptions,
  'scope' | 'operation' | 'fingerprint' | 'colocateWith'
> {
  /**
   * The key, from the method's arguments: text, a safe integer or a bigint; anything else is an `IdempotencyKeyInvalidError`. Default, on a route: the request's
   * header.
   */
  key?: (...args: KeyArgs) => string | number | bigint;
  /**
   * Separates equal keys of different callers, from the method's arguments. Default, on a route: `request.user` by its id and its tenant or
   * issuer, else the Authorization header, else the session, else all callers are one. Elsewhere: none.
   */
  scope?: (...args: ScopeArgs) => string;
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
    const kinds = new HandlerKinds(String(key));
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
          return exchange ? overHttp(decorated, exchange) : byArguments(decorated, kinds, interceptor);
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
  const given = options.key ? options.key(...args) : keyFromHeader(request, header);
  if (given === undefined) {
    if (options.required ?? idempotency.defaults.required)
      throw new IdempotencyKeyMissingError(`The request needs an ${header} header`);
    return await call.proceed();
  }
  const key = keyText(given);
  const claimed = await claimOnce(idempotency, exchange, key, () =>
    runOptions(options, {
      operation: operationOf(decorated, (name) => `${name} ${routeOf(request)}${exchange.route.version}`),
      colocateWith: options.colocateWith?.(...args),
      scope: options.scope?.(...args) ?? callerScope(request),
      fingerprint: options.fingerprint ? options.fingerprint(...args) : payloadOf(request),
      codec: options.codec,
      result: undefined,
    }),
  );
  return claimed.kind === 'run'
    ? await claimed.run.handle(() => call.proceed())
    : claimed.read((result) => replay(exchange, result, options.codec ?? idempotency.defaults.codec));
}

async function byArguments(
  decorated: IdempotentCall,
  kinds: HandlerKinds,
  interceptor: object,
): Promise<unknown> {
  const { options, call, idempotency, site } = decorated;
  const { args } = call;
  if (!options.key) {
    if (isPartOfRun(idempotency, (run) => run.exchange !== undefined)) return await call.proceed();
    throw new ConfigurationError(
      `${operationName(call.instance.constructor, site)} was called by other code than Nest for a request of its own, so its idempotency key must come from its arguments: @Idempotent({ key: (…) => … })`,
    );
  }
  const message = messageFor(interceptor, args);
  const kind = kinds.of(call.instance);
  const { key, asked } = readingMessage(kind, message?.delivery, () => ({
    key: keyText(options.key!(...args)),
    asked: runOptions(options, {
      operation: operationOf(decorated, (name) => name),
      colocateWith: options.colocateWith?.(...args),
      scope: options.scope?.(...args) ?? '',
      fingerprint: options.fingerprint?.(...args),
      codec: kind.codec(options.codec, idempotency.defaults.codec),
      result: options.result ?? (kind.isUnawaited || message?.isAwaited === false ? 'optional' : 'required'),
    }),
  }));
  const name = { scope: asked.scope, operation: asked.operation, key };
  if (isPartOfRun(idempotency, (run) => isSameCall(run.name, name))) return await call.proceed();

  const running = { kind: 'run' as const, idempotency, name, exchange: undefined, isRunning: true };
  const work = (): unknown => withinCall(running, () => call.proceed());
  try {
    const { delivery } = message ?? {};
    return delivery || kind.isGolevelup
      ? await runForMessage({ idempotency, kind, delivery, key, options: asked }, work)
      : await idempotency.run(key, work, asked);
  } finally {
    running.isRunning = false;
  }
}

/** What is known of one call only. */
type OfCall = Pick<RouteOptions, 'operation' | 'scope'> &
  Pick<IdempotencyOptions, 'colocateWith' | 'fingerprint' | 'codec' | 'result'>;

/** With no option left out. */
type EveryOption = { [Name in keyof Required<RouteOptions>]: RouteOptions[Name] };

/** What goes to the service: the decorator's options as they are, and what belongs to the call. Written out, since a spread of as many fields costs more than a hash. */
const runOptions = (
  options: AnyOptions,
  { operation, scope, colocateWith, fingerprint, codec, result }: OfCall,
): EveryOption => ({
  operation,
  scope,
  colocateWith,
  fingerprint,
  ttlMs: options.ttlMs,
  leaseMs: options.leaseMs,
  maxRunMs: options.maxRunMs,
  timeoutMs: options.timeoutMs,
  onDuplicate: options.onDuplicate,
  waitTimeoutMs: options.waitTimeoutMs,
  onUnavailable: options.onUnavailable,
  codec,
  result,
  durability: options.durability,
  onError: options.onError,
  propagation: options.propagation,
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
