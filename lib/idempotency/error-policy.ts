import { HttpException, Logger } from '@nestjs/common';
import { AtomicRedisError, describe } from '../atomic-redis.errors.js';
import type { OnError } from './idempotency.options.js';
import type { ResultNeed } from './result-handling.js';

const logger = new Logger('IdempotencyService');

/**
 * Decides about the key of a method that threw, if the caller gave no `onError`. An error that may
 * have taken effect holds the key; a 4xx is the method's answer and is replayed; any other error
 * gives the key back.
 */
export function defaultOnError(error: unknown): OnError {
  if (error instanceof AtomicRedisError && error.outcome !== 'not-applied') return 'hold';
  if (isClientError(error)) return 'replay';
  return 'release';
}

export const isClientError = (error: unknown): error is HttpException =>
  error instanceof HttpException && error.getStatus() >= 400 && error.getStatus() < 500;

export type OnErrorOption = OnError | ((error: unknown) => OnError);

const POLICIES: ReadonlySet<unknown> = new Set<OnError>(['replay', 'release', 'hold']);

/**
 * Returns the caller's own policy, else the default. Never throws: a run that cannot be settled
 * would keep its key as long as the process lives.
 */
export function decide(
  option: OnErrorOption | undefined,
  error: unknown,
  need: ResultNeed = 'required',
): OnError {
  const chosen = chosenPolicy(option, error);
  if (chosen) return chosen;
  const policy = totalDefault(error);
  // An error is an answer only where a caller takes it. A message that failed is delivered and
  // handled again.
  return policy === 'replay' && need === 'optional' ? 'release' : policy;
}

/**
 * Returns the policy that the caller gives for an error, or undefined where it gives none. A
 * callback that throws, or returns anything but a policy, is logged and counts as none.
 */
export function chosenPolicy(option: OnErrorOption | undefined, error: unknown): OnError | undefined {
  if (typeof option !== 'function') return option;
  try {
    const chosen: unknown = option(error);
    if (POLICIES.has(chosen)) return chosen as OnError;
    logger.error(`onError must return "replay", "release" or "hold", but returned ${describe(chosen)}`);
  } catch (failure) {
    logger.error('onError threw', failure);
  }
  return undefined;
}

/**
 * An error of the application may throw when it is asked for its status; its effect is then not
 * known either.
 */
function totalDefault(error: unknown): OnError {
  try {
    return defaultOnError(error);
  } catch {
    return 'hold';
  }
}
