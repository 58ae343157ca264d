import * as check from '../atomic-redis.validation.js';
import { checkHeaders, type IdempotencyHeaders } from './http/idempotency-headers.js';
import type { OnResponse } from './http/outcome.js';
import { checkReplayHeaders } from './http/replay-headers.js';
import { idempotencyCallChecks, type IdempotencyOptions } from './idempotency-call.options.js';

/** Options of `@Idempotent`. The callbacks take the arguments of the method. */
export interface IdempotentOptions<
  KeyArgs extends unknown[],
  ScopeArgs extends unknown[],
  Instance extends object = object,
> extends Omit<IdempotencyOptions, 'scope' | 'operation' | 'evidence' | 'fingerprint' | 'colocateWith'> {
  /**
   * The key, from the method's arguments: text, a safe integer or a bigint; anything else is an
   * `IdempotencyKeyInvalidError`. Default, on a route: the request's header.
   */
  key?: (...args: KeyArgs) => string | number | bigint;
  /**
   * Separates equal keys of different callers, from the method's arguments; it decides alone.
   * Anything but a non-empty string is refused with a `ConfigurationError`, so name guests too.
   * Default, on a route: the module's `idempotency.scope`, else `callerScope(request)` and
   * `callerEvidence(request)`. Elsewhere: none.
   */
  scope?: (...args: ScopeArgs) => string | Promise<string>;
  /**
   * Names what the method does: `orders.ship`. Equal keys of different operations are different. On
   * a route the default is its HTTP method, path and version, `POST /accounts/:id/deposits`; a name
   * of your own survives a change of the path. On any other method it is required, since names of
   * classes change when they are renamed or minified. Two methods of a registration with one
   * operation would answer each other's calls, as would two instances of a class: the application
   * does not boot. A callback names each instance of a class, or each class that inherits the
   * method: `(self: Notifier) => self.channel`. It is called at boot and with every call, and must
   * return the same each time.
   */
  operation?: string | ((instance: Instance) => string);
  /**
   * On a Cluster: a key, from the method's arguments, whose hash slot the record is put into; see
   * `IdempotencyOptions.colocateWith`.
   */
  colocateWith?: (...args: ScopeArgs) => string;
  /**
   * The payload, or what tells it from another, from the method's arguments: the same key with
   * another one is refused. Default, on a route: HTTP method, URL, body and uploaded files; a body
   * that was not parsed does not count. Elsewhere: not compared.
   */
  fingerprint?: (...args: ScopeArgs) => unknown;
  /**
   * Decides, on a route, the fate of the key when the handler answered: `replay` keeps the
   * response, `release` gives the key back, `hold` lets no call run again. It is called with a
   * response that is complete, before the client gets its end. Default, also when it throws: the
   * response is kept; 408, 412, 425, 429 and statuses from 500 on that the handler sent give the
   * key back.
   */
  onResponse?: OnResponse;
  /**
   * Lets the bytes of a route's response flow to the client as they come; only its end waits until
   * the response is kept. For long streams. Over HTTP/1.0 a response is held whole all the same.
   * @default false
   */
  stream?: boolean;
  /**
   * Headers of a route's response that a replay repeats, beside those of the module's
   * `replayHeaders`.
   * @default []
   */
  replayHeaders?: readonly string[];
  /**
   * Names of the headers of key and replay, and whether the key is sent back. Default: the module's
   * `idempotency.headers`.
   */
  headers?: IdempotencyHeaders;
  /**
   * Refuse a request without a key; false runs it unprotected. Default: the module's
   * `idempotency.required`.
   */
  required?: boolean;
  /**
   * Refuse a request of a caller that nothing identifies. Default: the module's
   * `idempotency.requireCaller`.
   */
  requireCaller?: boolean;
  /** The registration to use. Default: the unnamed one. */
  name?: string;
}

export const checkIdempotentOptions = check.options({
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

/** The options of any decorator, whatever its callbacks take. */
export type AnyIdempotentOptions = IdempotentOptions<unknown[], unknown[], never>;
