import type { IdempotencyService } from '../idempotency.service.js';
import type { ResultCodec } from '../result-codec.js';
import { wireOf } from '../settled-response.js';
import { bytesOf, replayed, type StoredResult } from '../stored-result.js';
import type { ExchangeClaim, HttpExchange } from './exchange.js';
import { ExchangeRun, type CaptureOptions, type RouteOptions } from './exchange-run.js';
import { noteReplay, sendRecorded } from './http-exchange.js';
import { markReplayed, type IdempotencyHeaders } from './idempotency-headers.js';
import { isBegun } from './raw-response.js';
import { acceptable, decodeWire } from './wire-response.js';

/**
 * Claims the key of a request: an interceptor that calls the handler again does so under the same
 * claim.
 */
export function claimOnce(
  idempotency: IdempotencyService,
  exchange: HttpExchange,
  key: string,
  optionsOf: () => RouteOptions | Promise<RouteOptions>,
  capture: CaptureOptions,
): Promise<ExchangeClaim> {
  exchange.claim ??= claim(idempotency, exchange, key, optionsOf(), capture);
  return exchange.claim;
}

async function claim(
  idempotency: IdempotencyService,
  exchange: HttpExchange,
  key: string,
  given: RouteOptions | Promise<RouteOptions>,
  capture: CaptureOptions,
): Promise<ExchangeClaim> {
  try {
    const options = given instanceof Promise ? await given : given;
    idempotency.inFlight.enter();
    try {
      const claimed = await idempotency.claim(key, options);
      if (claimed.kind === 'replay') return claimed;
      return { kind: 'run', run: new ExchangeRun(idempotency, exchange, key, options, capture, claimed.run) };
    } finally {
      idempotency.inFlight.leave();
    }
  } catch (error) {
    // Nothing was claimed: a repeated call of the handler may try again.
    exchange.claim = undefined;
    throw error;
  }
}

/** The kinds of result that a replay throws again. */
const STORED_ERRORS: ReadonlySet<StoredResult['kind']> = new Set([
  'error',
  'plain-error',
  'thrown',
  'thrown-undefined',
]);

/** The kinds of result that a replay returns. */
const VALUES: ReadonlySet<StoredResult['kind']> = new Set(['value', 'undefined']);

/**
 * Answers a request with the response of the first run, or with the error that stands for it.
 * @returns the value that the method's wrapper returns in place of the handler's
 */
export function replay(
  exchange: HttpExchange,
  result: StoredResult,
  { codec, headers }: { codec: ResultCodec; headers: Required<IdempotencyHeaders> },
): unknown {
  const { request, response } = exchange;
  if (result.kind === 'http') {
    const recorded = acceptable(decodeWire(bytesOf(result)), request.headers['accept-encoding']);
    return recorded instanceof Promise
      ? recorded.then((decoded) => sendRecorded(exchange, markReplayed(decoded, headers)))
      : sendRecorded(exchange, markReplayed(recorded, headers));
  }
  const isFree = !isBegun(response);
  const isError = STORED_ERRORS.has(result.kind);
  if (isFree && isError) noteReplay(exchange);
  if (isFree && (isError || VALUES.has(result.kind)) && headers.replayed)
    response.setHeader(headers.replayed, 'true');
  const value = replayed(result, codec);
  // Settled by an operator or a probe. Nest sends nothing for a handler that sends by itself.
  if (!exchange.sendsByItself) return value;
  return sendRecorded(exchange, wireOf({ status: response.statusCode, body: value }));
}
