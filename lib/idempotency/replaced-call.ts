import { callReplacement } from '../method-wrapping/replaced-service.js';
import type { HttpExchange } from './http/exchange.js';
import { isSafe, keyFromHeader } from './http/http-request.js';
import { resolveHeaders } from './http/idempotency-headers.js';
import type { IdempotentCall } from './idempotent-call.js';
import { keyText } from './key-text.js';

/**
 * Calls the service that a test put in its place. Only the key is determined here, and the
 * service's `run` decides the result.
 */
export async function callByReplacement(
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
