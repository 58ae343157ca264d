import { MAX_RETRY_MS } from './back-off.js';

/** Shortest time after which a refused job is given out again: it must not go round in circles. */
const MIN_MS = 50;

/** Greatest depth to which causes are followed. */
const MAX_CAUSES = 5;

/**
 * Tells after how many milliseconds a job may be tried again whose handler threw an error that says
 * so: it, or what caused it, has `retryable: true` and `retryAfterMs`. Undefined for any other,
 * which is a failure.
 */
export function retryAfterOf(error: unknown): number | undefined {
  try {
    let at = error as { retryable?: unknown; retryAfterMs?: unknown; cause?: unknown } | undefined;
    for (let depth = 0; depth < MAX_CAUSES && typeof at === 'object' && at !== null; depth++) {
      const { retryable, retryAfterMs } = at;
      if (retryable === true && typeof retryAfterMs === 'number' && retryAfterMs >= 0)
        return Math.ceil(Math.min(MAX_RETRY_MS, Math.max(MIN_MS, retryAfterMs)));
      at = at.cause as typeof at;
    }
  } catch {
    // An error that cannot be looked at.
  }
  return undefined;
}
