import { ConfigurationError } from '../atomic-redis.errors.js';
import { isPartOfRun, isSameCall, withinCall } from './current-call.js';
import { operationOf, runOptions, scopeSourceOf, type IdempotentCall } from './idempotent-call.js';
import { labelOf } from './idempotent-mark.js';
import { keyText } from './key-text.js';
import { scopeOfArguments } from './request-scope.js';
import type { HandlerKinds } from './messages/handler-kind.js';
import { readingMessage, runForMessage } from './messages/message-call.js';
import { messageFor } from './messages/message-context.js';

/** The surroundings of a call that is no request. */
export interface CalledAs {
  readonly kinds: HandlerKinds;
  readonly interceptor: object;
  /** True for a route that no known request calls. */
  readonly lacksRequest: boolean;
}

/**
 * Runs a decorated method whose key comes from its arguments: of a provider or a message handler,
 * or a route that other code calls.
 */
export async function callByArguments(
  decorated: IdempotentCall,
  { kinds, interceptor, lacksRequest }: CalledAs,
): Promise<unknown> {
  const { options, call, idempotency, site } = decorated;
  const { args } = call;
  // Without its request a route has no caller: equal keys of different callers would share one
  // record.
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
