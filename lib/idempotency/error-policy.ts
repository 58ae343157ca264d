import { HttpException } from '@nestjs/common';
import { AtomicRedisError } from '../atomic-redis.errors.js';
import type { OnError } from './idempotency.options.js';

/**
 * What becomes of the key when the method threw and the caller did not say. An error that may have taken effect holds it; a 4xx is the
 * method's answer and is replayed; anything else gives the key back.
 */
export function defaultOnError(error: unknown): OnError {
  if (error instanceof AtomicRedisError && error.outcome !== 'not-applied') return 'hold';
  if (isClientError(error)) return 'replay';
  return 'release';
}

export const isClientError = (error: unknown): error is HttpException =>
  error instanceof HttpException && error.getStatus() >= 400 && error.getStatus() < 500;

export type OnErrorOption = OnError | ((error: unknown) => OnError);

export const decide = (option: OnErrorOption | undefined, error: unknown): OnError =>
  typeof option === 'function' ? option(error) : (option ?? defaultOnError(error));
