import { UseFilters, UseInterceptors } from '@nestjs/common';
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
import { markIdempotent, operationName, type IdempotentMark } from './boot-check.js';
import { isPartOfRun, isSameCall, withinCall } from './current-call.js';
import { callerScope } from './http/caller.js';
import { HttpExchangeInterceptor, markOurs, refuseEvents, type HttpExchange } from './http/http-exchange.js';
import { IDEMPOTENCY_HEADER, isSafe, keyFromHeader, payloadOf, routeOf } from './http/http-request.js';
import type { OnResponse } from './http/outcome.js';
import { ReplayFilter } from './http/replay-filter.js';
import { checkReplayHeaders, recordedHeaders } from './http/replay-headers.js';
import { claimOnce, replay, type CaptureOptions, type RouteOptions } from './http/route-call.js';
import { IdempotencyKeyMissingError } from './idempotency.errors.js';
import { idempotencyCallChecks, type IdempotencyOptions } from './idempotency-call.options.js';
import type { IdempotencyService } from './idempotency.service.js';

/** Of `@Idempotent`. The callbacks take the arguments of the method. */
export interface IdempotentOptions<KeyArgs extends unknown[], ScopeArgs extends unknown[]> extends Omit<
  IdempotencyOptions,
  'scope' | 'operation' | 'fingerprint' | 'colocateWith'
> {
  /** The key, from the method's arguments. Default, on a route: the request's header. */
  key?: (...args: KeyArgs) => string;
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
  /**
   * Decides, on a route, what becomes of the key when the handler answered: `replay` keeps the response, `release`
   * gives the key back, `hold` lets no call run again. It is called with a response that is complete, before the
   * client gets its end. Default, also where it throws: the response is kept; 408, 412, 425, 429 and statuses from
   * 500 on that the handler sent give the key back.
   */
  onResponse?: OnResponse;
  /**
   * Lets the bytes of a route's response flow to the client as they come; only its end waits until the response
   * is kept. For long streams. Over HTTP/1.0 a response is held whole all the same. @default false
   */
  stream?: boolean;
  /** Headers of a route's response that a replay repeats, beside those of the module's `replayHeaders`. @default [] */
  replayHeaders?: readonly string[];
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
  onResponse: check.func,
  stream: check.boolean,
  replayHeaders: checkReplayHeaders,
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
    const interceptor = markOurs(new HttpExchangeInterceptor(String(key)));
    const { name: registration = DEFAULT_REGISTRATION } = options;
    const { operation, header, required, onDuplicate, onUnavailable } = options;
    const site = siteOf('Idempotent', target, key);
    const captureOf = captureOptions(options);
    const mark: IdempotentMark = {
      registration,
      operation,
      hasKey: options.key !== undefined,
      site,
      isRoute: false,
      header,
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
          const decorated = { idempotency, options: options as AnyOptions, captureOf, call, site };
          if (typeof from === 'object') return overHttp(decorated, from);
          return byArguments(decorated, mark.isRoute && from === undefined);
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

type AnyOptions = IdempotentOptions<unknown[], unknown[]>;

/** One call of a decorated method. */
interface IdempotentCall {
  readonly idempotency: IdempotencyService;
  readonly options: AnyOptions;
  readonly captureOf: (idempotency: IdempotencyService) => CaptureOptions;
  readonly call: MethodCall;
  readonly site: MethodSite;
}

/** Returns the options of the decorator for recording a response, with the defaults of a registration; made once for each. */
function captureOptions({
  stream = false,
  replayHeaders,
  onResponse,
}: Pick<AnyOptions, 'stream' | 'replayHeaders' | 'onResponse'>): (
  idempotency: IdempotencyService,
) => CaptureOptions {
  const made = new WeakMap<IdempotencyService, CaptureOptions>();
  return (idempotency) => {
    let capture = made.get(idempotency);
    if (!capture) {
      const headers = recordedHeaders(idempotency.defaults.replayHeaders, replayHeaders);
      capture = { stream, replayHeaders: headers, onResponse };
      made.set(idempotency, capture);
    }
    return capture;
  };
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
  const claimed = await claimOnce(
    idempotency,
    exchange,
    key,
    () =>
      runOptions(options, {
        operation: operationOf(decorated, (name) => `${name} ${routeOf(request)}${exchange.route.version}`),
        colocateWith: options.colocateWith?.(...args),
        scope: options.scope?.(...args) ?? callerScope(request),
        fingerprint: options.fingerprint ? options.fingerprint(...args) : payloadOf(request),
      }),
    decorated.captureOf(idempotency),
  );
  return claimed.kind === 'run'
    ? await claimed.run.handle(() => call.proceed())
    : claimed.read((result) => replay(exchange, result, options.codec ?? idempotency.defaults.codec));
}

/** @param lacksRequest whether the method is a route, and no request is known that calls it */
async function byArguments(decorated: IdempotentCall, lacksRequest: boolean): Promise<unknown> {
  const { options, call, idempotency, site } = decorated;
  const { args } = call;
  // Without its request a route has no caller: equal keys of different callers would share one record.
  if (!options.key || (lacksRequest && !options.scope)) {
    if (isPartOfRun(idempotency, (run) => run.exchange !== undefined)) return await call.proceed();
    throw new ConfigurationError(
      `${operationName(call.instance.constructor, site)} was called without the request that Nest calls it for. ` +
        (lacksRequest
          ? 'A route that other code calls takes key and scope from its arguments: @Idempotent({ key: (…) => …, scope: (…) => … })'
          : 'Its idempotency key must come from its arguments: @Idempotent({ key: (…) => … })'),
    );
  }
  const key = options.key(...args);
  const scope = options.scope?.(...args) ?? '';
  const operation = operationOf(decorated, (name) => name);
  const colocateWith = options.colocateWith?.(...args);
  const fingerprint = options.fingerprint?.(...args);
  const name = { scope, operation, key };
  if (isPartOfRun(idempotency, (run) => isSameCall(run.name, name))) return await call.proceed();

  const running = { kind: 'run' as const, idempotency, name, exchange: undefined, isRunning: true };
  try {
    const asked = runOptions(options, { operation, colocateWith, scope, fingerprint });
    return await idempotency.run(key, () => withinCall(running, () => call.proceed()), asked);
  } finally {
    running.isRunning = false;
  }
}

/** What is known of one call only. */
type OfCall = Pick<RouteOptions, 'operation' | 'scope'> &
  Pick<IdempotencyOptions, 'colocateWith' | 'fingerprint'>;

/** With no option left out. */
type EveryOption = { [Name in keyof Required<RouteOptions>]: RouteOptions[Name] };

/** What goes to the service: the decorator's options as they are, and what belongs to the call. Written out, since a spread of as many fields costs more than a hash. */
const runOptions = (
  options: AnyOptions,
  { operation, scope, colocateWith, fingerprint }: OfCall,
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
  codec: options.codec,
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
