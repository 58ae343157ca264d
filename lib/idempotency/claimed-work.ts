import type { Observable } from 'rxjs';
import { decide } from './error-policy.js';
import type { IdempotencyOptions } from './idempotency-call.options.js';
import type { ResolvedIdempotencyOptions } from './idempotency.options.js';
import type { ClaimedRun, IdempotentRun } from './idempotent-run.js';
import type { ResultHandling } from './result-handling.js';
import { settled } from './settled.js';
import { storedError, storedValue, tombstone } from './stored-result.js';

/** Runs the work of a call that has claimed its key, and ends the run as the work ended. */
export async function runClaimed<T>(
  run: ClaimedRun,
  work: (run: IdempotentRun) => Promise<T> | Observable<T> | T,
  options: IdempotencyOptions,
  handling: ResultHandling,
  { codec, maxResultBytes }: ResolvedIdempotencyOptions,
): Promise<T> {
  let value: T;
  try {
    value = await run.within(() => settled(work(run)));
  } catch (error) {
    const policy = decide(options.onError, error, options.result);
    if (policy === 'release') await run.release();
    else if (policy === 'replay') await run.complete(handling.keep(storedError(error, maxResultBytes)));
    else await run.complete(tombstone('outcome-unknown'));
    throw error;
  }
  const stored = storedValue(value, options.codec ?? codec, maxResultBytes, {
    operation: options.operation,
    isMissed: options.result !== 'optional',
  });
  await run.complete(handling.keep(stored));
  return value;
}
