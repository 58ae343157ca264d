import type { RequestCall } from '../current-call.js';
import { IdempotencyKeyMissingError } from '../idempotency.errors.js';
import type { IdempotencyService } from '../idempotency.service.js';
import { operationOf, runOptions, scopeSourceOf, type IdempotentCall } from '../idempotent-call.js';
import type { AnyIdempotentOptions } from '../idempotent.options.js';
import { keyText } from '../key-text.js';
import { callerOfRequest } from '../request-scope.js';
import { isSafe, keyFromHeader } from './http-request.js';
import { echoKey, headersOf } from './idempotency-headers.js';
import { recordedHeaders } from './replay-headers.js';
import { payloadOf } from './request-payload.js';
import type { CaptureOptions } from './exchange-run.js';
import { claimOnce, replay } from './route-call.js';

/**
 * Returns the options of the decorator for recording a response, with the defaults of a
 * registration; made once for each.
 */
export function captureOptions({
  stream = false,
  replayHeaders,
  onResponse,
}: Pick<AnyIdempotentOptions, 'stream' | 'replayHeaders' | 'onResponse'>): (
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

/**
 * Runs a decorated route for a request, or answers it from the record. Async, so that what a
 * callback throws rejects.
 */
export async function callOverHttp(decorated: IdempotentCall, from: RequestCall): Promise<unknown> {
  const { options, call, idempotency } = decorated;
  const { args } = call;
  const { exchange } = from;
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
  if (claimed.kind === 'run') {
    const { run } = claimed;
    return run.given(await run.handle(() => call.proceed()), from.handled?.caller);
  }
  return claimed.read((result) =>
    replay(exchange, result, { codec: options.codec ?? idempotency.defaults.codec, headers }),
  );
}
