import type { IdempotencyOptions } from '../idempotency-call.options.js';
import type { IdempotencyService } from '../idempotency.service.js';
import type { ResultCodec } from '../result-codec.js';
import { bytesOf, replayed, type StoredResult } from '../stored-result.js';
import { ExchangeRun } from './exchange-run.js';
import type { ExchangeClaim, HttpExchange } from './http-exchange.js';
import { decodeWire } from './wire-response.js';

/** How a request is to be claimed. */
export type RouteOptions = IdempotencyOptions & { readonly scope: string; readonly operation: string };

/** The claim of a request: an interceptor that calls the handler again does so under the same. */
export function claimOnce(
  idempotency: IdempotencyService,
  exchange: HttpExchange,
  key: string,
  optionsOf: () => RouteOptions | Promise<RouteOptions>,
): Promise<ExchangeClaim> {
  if (!exchange.claim) {
    const options = optionsOf();
    exchange.claim =
      options instanceof Promise
        ? claimLater(idempotency, exchange, key, options)
        : claim(idempotency, exchange, key, options);
  }
  return exchange.claim;
}

async function claimLater(
  idempotency: IdempotencyService,
  exchange: HttpExchange,
  key: string,
  options: Promise<RouteOptions>,
): Promise<ExchangeClaim> {
  try {
    return await claim(idempotency, exchange, key, await options);
  } catch (error) {
    exchange.claim = undefined;
    throw error;
  }
}

async function claim(
  idempotency: IdempotencyService,
  exchange: HttpExchange,
  key: string,
  options: RouteOptions,
): Promise<ExchangeClaim> {
  idempotency.inFlight.enter();
  try {
    const claimed = await idempotency.claim(key, options);
    if (claimed.kind === 'replay') return claimed;
    return { kind: 'run', run: new ExchangeRun(idempotency, exchange, key, options, claimed.run) };
  } catch (error) {
    // Nothing was claimed: who calls again may try again.
    exchange.claim = undefined;
    throw error;
  } finally {
    idempotency.inFlight.leave();
  }
}

/** Answers a request with the response of the first run. @returns what the handler is to return in its place */
export function replay({ tap }: HttpExchange, result: StoredResult, codec: ResultCodec): unknown {
  if (result.kind !== 'http') return replayed(result, codec);
  const response = decodeWire(bytesOf(result));
  tap.replay(response);
  // What is returned here is dropped on the way out, but a @Redirect() route asks it for its url first.
  return response.headers.location ? { url: response.headers.location } : undefined;
}
