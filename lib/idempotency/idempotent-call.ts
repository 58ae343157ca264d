import type { MethodCall, MethodSite } from '../method-wrapping/method-site.js';
import type { CaptureOptions, RouteOptions } from './http/exchange-run.js';
import { labelOf, operationMissing, ownNameOf } from './idempotent-mark.js';
import type { AnyIdempotentOptions } from './idempotent.options.js';
import type { IdempotencyService } from './idempotency.service.js';
import type { ScopeSource } from './request-scope.js';

/** One call of a decorated method. */
export interface IdempotentCall {
  readonly idempotency: IdempotencyService;
  readonly options: AnyIdempotentOptions;
  readonly captureOf: (idempotency: IdempotencyService) => CaptureOptions;
  readonly call: MethodCall;
  readonly site: MethodSite;
}

/** The options that belong to one call. */
type OfCall = Pick<EveryOption, 'operation' | 'colocateWith' | 'fingerprint' | 'codec' | 'result'>;

/** With no option left out. */
type EveryOption = { [Name in keyof Required<RouteOptions>]: RouteOptions[Name] };

/**
 * Builds the options for the service: the decorator's options as they are, and those of this call.
 * Written out, because a spread of as many fields costs more than a hash.
 */
export const runOptions = (
  options: AnyIdempotentOptions,
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
  maxAttempts: options.maxAttempts,
  onAbandoned: options.onAbandoned,
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

export const scopeSourceOf = ({ options, idempotency, call, site }: IdempotentCall): ScopeSource => ({
  scope: options.scope,
  requireCaller: options.requireCaller,
  defaults: idempotency.defaults,
  nameOf: () => labelOf(call.instance.constructor, site),
});

export function operationOf({ options, call, idempotency, site }: IdempotentCall): string {
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
