import { InvalidArgumentError } from '../atomic-redis.errors.js';
import { integer, options, type Check } from '../atomic-redis.validation.js';

/** Wait of a job after a failed delivery. @inline */
export interface RetryBackOff {
  /** Shortest wait, in milliseconds. 0 with a `maxMs` of 0 retries at once. @default 1000 */
  minMs?: number;
  /** Longest wait, in milliseconds, up to a day. @default 1800000 */
  maxMs?: number;
}

/** A day. Also the longest that a refusal can ask for. */
export const MAX_RETRY_MS = 86_400_000;

/** Ten years. */
const MAX_DELAY_MS = 315_360_000_000;

/** Checks the delay of a push or a retry, in milliseconds. */
export const delayMsCheck: Check = integer(0, MAX_DELAY_MS);

/**
 * The factor by which each wait may be longer than the one before. By twos, the five deliveries of
 * the default would be over within half a minute, or the first retry would have to be late: with
 * six, the first wait is short and all waits together outlast an outage of some minutes.
 */
const GROWTH = 6;

export const retryDefaults: Required<RetryBackOff> = { minMs: 1_000, maxMs: 1_800_000 };

/** Fills in what is absent; a default gives way to a bound that was given. */
export function resolveRetry(
  defaults: Required<RetryBackOff>,
  given: RetryBackOff = {},
): Required<RetryBackOff> {
  const { minMs = Math.min(defaults.minMs, given.maxMs ?? Infinity) } = given;
  return { minMs, maxMs: given.maxMs ?? Math.max(defaults.maxMs, minMs) };
}

const checkFields = options({ minMs: integer(0, MAX_RETRY_MS), maxMs: integer(0, MAX_RETRY_MS) });

export const retryCheck: Check = (path, value) => {
  checkFields(path, value);
  const { minMs, maxMs } = value as RetryBackOff;
  if (minMs !== undefined && maxMs !== undefined && minMs > maxMs)
    throw new InvalidArgumentError(`${path}.minMs`, `at most maxMs, ${maxMs}`, minMs);
};

/**
 * Draws the wait after a failed delivery, evenly from one step of the back-off to the next, so that
 * jobs which failed together do not come back together. The steps grow from `minMs`, and the last
 * ends at `maxMs`.
 *
 * @param deliveries how often the job was delivered
 */
export function backOffMs(deliveries: number, { minMs, maxMs }: Required<RetryBackOff>): number {
  const step = minMs * GROWTH ** Math.min(deliveries - 1, 30);
  const from = Math.max(minMs, Math.min(step, maxMs / GROWTH));
  const to = Math.min(maxMs, step * GROWTH);
  return Math.round(from + Math.random() * Math.max(0, to - from));
}
