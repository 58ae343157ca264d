import { isText } from '../atomic-redis.validation.js';
import { IdempotencyKeyInvalidError } from './idempotency.errors.js';

/**
 * Returns the key that a callback made of what a client sent. An integer is its decimal text.
 *
 * @throws IdempotencyKeyInvalidError for anything else; for an integer beyond 2^53 too, which has
 * lost digits on its way: two of them may have become one
 */
export function keyText(key: unknown): string {
  if (isText(key)) return key;
  if (typeof key === 'bigint' || Number.isSafeInteger(key)) return String(key);
  throw new IdempotencyKeyInvalidError('text that is not empty, a safe integer or a bigint', key);
}
