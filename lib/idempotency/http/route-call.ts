import type { ResultCodec } from '../result-codec.js';
import { replayed, type StoredResult } from '../stored-result.js';
import type { IdempotencyOptions } from '../idempotency-call.options.js';
import type { IdempotencyService } from '../idempotency.service.js';
import { callId } from '../current-call.js';
import { ExchangeRun } from './exchange-run.js';
import type { ExchangeClaim, HttpExchange } from './http-exchange.js';
import { decodeWire } from './wire-response.js';

/** What a request is to be claimed under. */
export interface RouteClaim extends IdempotencyOptions {
  key: string;
  scope: string;
  operation: string;
}

/**
 * Runs a route's handler under its claim, or answers with the response of the first run. An interceptor that calls the handler again does
 * so under the same claim.
 */
export async function answer(
  idempotency: IdempotencyService,
  exchange: HttpExchange,
  claimOf: () => RouteClaim,
  handler: () => unknown,
  codec: ResultCodec,
): Promise<unknown> {
  return await idempotency.track(async () => {
    exchange.claim ??= claim(idempotency, exchange, claimOf);
    const claimed = await exchange.claim.catch((error: unknown) => {
      // Nothing was claimed: who calls again may try again.
      exchange.claim = undefined;
      throw error;
    });
    return claimed.kind === 'run'
      ? await claimed.run.handle(handler)
      : claimed.read((result) => replay(exchange, result, codec));
  });
}

async function claim(
  idempotency: IdempotencyService,
  exchange: HttpExchange,
  claimOf: () => RouteClaim,
): Promise<ExchangeClaim> {
  const { key, ...options } = claimOf();
  const claimed = await idempotency.claim(key, options);
  if (claimed.kind === 'replay') return claimed;
  const { maxResultBytes, leaseMs } = idempotency.defaults;
  const run = new ExchangeRun(idempotency, exchange, claimed.run, {
    id: callId(options.scope, options.operation, key),
    maxResultBytes,
    leaseMs: options.leaseMs ?? leaseMs,
    onError: options.onError,
  });
  return { kind: 'run', run };
}

function replay({ tap }: HttpExchange, result: StoredResult, codec: ResultCodec): unknown {
  if (result.kind !== 'http') return replayed(result, codec);
  const response = decodeWire(result.bytes);
  tap.replay(response);
  // What is returned here is dropped on the way out, but a @Redirect() route asks it for its url first.
  return response.headers.location ? { url: response.headers.location } : undefined;
}
