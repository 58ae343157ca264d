import { UseFilters, UseInterceptors } from '@nestjs/common';
import type { Observable } from 'rxjs';
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
import { callReplacement, isReplaced } from '../method-wrapping/replaced-service.js';
import { isPartOfRun, isSameCall, withinCall } from './current-call.js';
import { HttpExchangeInterceptor, markOurs, refuseEvents, type HttpExchange } from './http/http-exchange.js';
import { isSafe, keyFromHeader } from './http/http-request.js';
import {
  checkHeaders,
  echoKey,
  headersOf,
  resolveHeaders,
  type IdempotencyHeaders,
} from './http/idempotency-headers.js';
import type { OnResponse } from './http/outcome.js';
import { ReplayFilter } from './http/replay-filter.js';
import { checkReplayHeaders, recordedHeaders } from './http/replay-headers.js';
import { payloadOf } from './http/request-payload.js';
import { claimOnce, replay, type CaptureOptions, type RouteOptions } from './http/route-call.js';
import { IdempotencyKeyMissingError } from './idempotency.errors.js';
import { keyText } from './key-text.js';
import { HandlerKinds } from './messages/handler-kind.js';
import { readingMessage, runForMessage } from './messages/message-call.js';
import { messageFor } from './messages/message-context.js';
import { idempotencyCallChecks, type IdempotencyOptions } from './idempotency-call.options.js';
import {
  labelOf,
  markIdempotent,
  operationMissing,
  ownNameOf,
  type IdempotentMark,
} from './idempotent-mark.js';
import { IdempotencyService } from './idempotency.service.js';
import { callerOfRequest, scopeOfArguments, type ScopeSource } from './request-scope.js';

/** Of `@Idempotent`. The callbacks take the arguments of the method. */
export interface IdempotentOptions<
  KeyArgs extends unknown[],
  ScopeArgs extends unknown[],
  Instance extends object = object,
> extends Omit<IdempotencyOptions, 'scope' | 'operation' | 'evidence' | 'fingerprint' | 'colocateWith'> {
  /**
   * The key, from the method's arguments: text, a safe integer or a bigint; anything else is an `IdempotencyKeyInvalidError`. Default, on a route: the request's
   * header.
   */
  key?: (...args: KeyArgs) => string | number | bigint;
  /**
   * Separates equal keys of different callers, from the method's arguments; it decides alone. Anything but a non-empty string is refused with a
   * `ConfigurationError`, so name guests too. Default, on a route: the module's `idempotency.scope`, else `callerScope(request)` and
   * `callerEvidence(request)`. Elsewhere: none.
   */
  scope?: (...args: ScopeArgs) => string | Promise<string>;
  /**
   * Names what the method does: `orders.ship`. Equal keys of different operations are different. On a route the default is its HTTP method, path
   * and version, `POST /accounts/:id/deposits`; a name of your own survives a change of the path. On any other method it is required, since
   * names of classes change when they are renamed or minified. Two methods of a registration with one operation would answer each other's
   * calls, as would two instances of a class: the application does not boot. A callback names each instance of a class, or each class that
   * inherits the method: `(self: Notifier) => self.channel`. It is called at boot and with every call, and must return the same each time.
   */
  operation?: string | ((instance: Instance) => string);
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
  /** Names of the headers of key and replay, and whether the key is sent back. Default: the module's `idempotency.headers`. */
  headers?: IdempotencyHeaders;
  /** Whether a request without a key is refused; else it runs unprotected. Default: the module's `idempotency.required`. */
  required?: boolean;
  /** Whether a request that nothing tells from those of others is refused. Default: the module's `idempotency.requireCaller`. */
  requireCaller?: boolean;
  /** The registration to use. Default: the unnamed one. */
  name?: string;
}

/** Stands for the arguments of a key callback where there is none. */
type NoKey = unknown[];

/** Nest awaits what a route returns; a method with a key of its own is called by others, which get a promise. */
type ReturnedUnder<KeyArgs extends unknown[]> = NoKey extends KeyArgs
  ? unknown
  : PromiseLike<unknown> | Observable<unknown>;

const checkOptions = check.options({
  ...idempotencyCallChecks,
  key: check.func,
  operation: check.either('a non-empty string or a function', check.nonEmptyString, check.func),
  scope: check.func,
  colocateWith: check.func,
  fingerprint: check.func,
  onResponse: check.func,
  stream: check.boolean,
  replayHeaders: checkReplayHeaders,
  headers: checkHeaders,
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
 * @Idempotent({ operation: 'orders.ship', key: (job: ShipOrder) => job.orderId }) async ship(job: ShipOrder) { … }
 * ```
 *
 * A call inside a run that needs no other key is part of that run: `super.create()` in a route's handler, or a call with the very key of the
 * run it is made in.
 *
 * @throws InvalidArgumentError at once for a wrong option; the application does not boot (`ConfigurationError`) with an `@Sse()` route,
 * with a method that is no route and lacks `key` or `operation`, nor with two methods or two instances of one operation; a call throws what `IdempotencyService.run` does; over HTTP also `IdempotencyKeyMissingError` or `IdempotencyKeyInvalidError`, and
 * `ConfigurationError` for a `request.user` without a recognised id, which needs `scope`
 */
export function Idempotent<
  KeyArgs extends unknown[] = NoKey,
  ScopeArgs extends unknown[] = [],
  Instance extends object = object,
>(
  options: IdempotentOptions<KeyArgs, ScopeArgs, Instance> = {},
): CheckedMethodDecorator<KeyArgs, ScopeArgs, Instance, ReturnedUnder<KeyArgs>> {
  checkOptions('@Idempotent', options);
  return (target, key, descriptor) => {
    const interceptor = markOurs(new HttpExchangeInterceptor(String(key)));
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
          const decorated = { idempotency, options: options as AnyOptions, captureOf, call, site };
          if (isReplaced(idempotency, IdempotencyService))
            return byReplacement(decorated, typeof from === 'object' ? from.request : undefined);
          if (typeof from === 'object') return overHttp(decorated, from);
          const isRoute = mark.routes.has(Object.getPrototypeOf(call.instance) as object);
          return byArguments(decorated, { kinds, interceptor, lacksRequest: isRoute && from === undefined });
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

type AnyOptions = IdempotentOptions<unknown[], unknown[], never>;

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
  const headers = headersOf(options.headers, idempotency.defaults.headers);
  const given = options.key ? options.key(...args) : keyFromHeader(request, headers.key);
  if (given === undefined) {
    if (options.required ?? idempotency.defaults.required)
      throw new IdempotencyKeyMissingError(`The request needs an ${headers.key} header`);
    return await call.proceed();
  }
  const key = keyText(given);
  if (!options.key) echoKey(exchange.response, headers, key);
  const claimed = await claimOnce(
    idempotency,
    exchange,
    key,
    () => {
      const ofCall = {
        operation: operationOf(decorated),
        colocateWith: options.colocateWith?.(...args),
        fingerprint: options.fingerprint ? (options.fingerprint(...args) ?? null) : payloadOf(request),
        codec: options.codec,
        result: undefined,
      };
      const caller = callerOfRequest(scopeSourceOf(decorated), args, request);
      return caller instanceof Promise
        ? caller.then((scope) => runOptions(options, ofCall, scope, undefined))
        : runOptions(options, ofCall, caller.scope, caller.evidence);
    },
    decorated.captureOf(idempotency),
  );
  return claimed.kind === 'run'
    ? await claimed.run.handle(() => call.proceed())
    : claimed.read((result) =>
        replay(exchange, result, { codec: options.codec ?? idempotency.defaults.codec, headers }),
      );
}

/** By what a test has put in the place of the service: only the key is found here, and the result is what its `run` makes of it. */
async function byReplacement(
  { idempotency, options, call }: IdempotentCall,
  request: HttpExchange['request'] | undefined,
): Promise<unknown> {
  const { args } = call;
  if (!options.key && (!request || isSafe(request))) return await call.proceed();
  const given = options.key
    ? options.key(...args)
    : keyFromHeader(request!, resolveHeaders('ietf', options.headers).key);
  if (given === undefined) return await call.proceed();
  const replaced = { service: idempotency, name: 'IdempotencyService', decorator: 'Idempotent' };
  return await callReplacement(replaced, 'run', keyText(given), () => call.proceed(), {});
}

/** The surroundings of a call that is no request. */
interface CalledAs {
  readonly kinds: HandlerKinds;
  readonly interceptor: object;
  /** Whether the method is a route, and no request is known that calls it. */
  readonly lacksRequest: boolean;
}

async function byArguments(
  decorated: IdempotentCall,
  { kinds, interceptor, lacksRequest }: CalledAs,
): Promise<unknown> {
  const { options, call, idempotency, site } = decorated;
  const { args } = call;
  // Without its request a route has no caller: equal keys of different callers would share one record.
  if (!options.key || (lacksRequest && !options.scope)) {
    if (isPartOfRun(idempotency, (run) => run.exchange !== undefined)) return await call.proceed();
    throw new ConfigurationError(
      `${labelOf(call.instance.constructor, site)} was called without the request that Nest calls it for. ` +
        (lacksRequest
          ? 'A route that other code calls takes key and scope from its arguments: @Idempotent({ key: (…) => …, scope: (…) => … })'
          : 'Its idempotency key must come from its arguments: @Idempotent({ key: (…) => … })'),
    );
  }
  const message = messageFor(interceptor, args);
  const kind = kinds.of(call.instance);
  const { key, asked } = await readingMessage(kind, message?.delivery, async () => {
    const scope = (await scopeOfArguments(scopeSourceOf(decorated), args)) ?? '';
    const ofCall = {
      operation: operationOf(decorated),
      colocateWith: options.colocateWith?.(...args),
      fingerprint: options.fingerprint && (options.fingerprint(...args) ?? null),
      codec: kind.codec(options.codec, idempotency.defaults.codec),
      result: options.result ?? (kind.isUnawaited || message?.isAwaited === false ? 'optional' : 'required'),
    } as const;
    return { key: keyText(options.key!(...args)), asked: runOptions(options, ofCall, scope, undefined) };
  });
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
type OfCall = Pick<EveryOption, 'operation' | 'colocateWith' | 'fingerprint' | 'codec' | 'result'>;

/** With no option left out. */
type EveryOption = { [Name in keyof Required<RouteOptions>]: RouteOptions[Name] };

/** What goes to the service: the decorator's options as they are, and what belongs to the call. Written out, since a spread of as many fields costs more than a hash. */
const runOptions = (
  options: AnyOptions,
  { operation, colocateWith, fingerprint, codec, result }: OfCall,
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
  codec,
  result,
  durability: options.durability,
  onError: options.onError,
  propagation: options.propagation,
});

const scopeSourceOf = ({ options, idempotency, call, site }: IdempotentCall): ScopeSource => ({
  scope: options.scope,
  requireCaller: options.requireCaller,
  defaults: idempotency.defaults,
  nameOf: () => labelOf(call.instance.constructor, site),
});

function operationOf({ options, call, idempotency, site }: IdempotentCall): string {
  const { operations } = idempotency;
  const { instance } = call;
  const owner = { prototype: Object.getPrototypeOf(instance) as object, site };
  let operation = operations.nameOf(owner.prototype, site.methodName);
  if (operation === undefined) {
    // Nest has made the class since boot.
    operation = options.operation;
    if (operation === undefined) throw operationMissing(instance.constructor, site);
    if (typeof operation === 'string') operations.claim(operation, owner);
    operations.name(owner, operation);
  }
  if (typeof operation === 'string') return operation;
  const name = ownNameOf(operation, instance);
  operations.refuseTaken(name, owner);
  return name;
}
