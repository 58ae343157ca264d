import { decide, isClientError, type OnErrorOption } from '../error-policy.js';
import type { Claim, ClaimedRun } from '../idempotent-run.js';
import { limited, replayed, tombstone } from '../stored-result.js';
import type { HttpExchange } from './http-exchange.js';
import type { Recording } from './response-tap.js';
import { decodeWire, encodeWire } from './wire-response.js';

export interface ExchangeOptions {
  maxResultBytes: number;
  onError?: OnErrorOption | undefined;
}

/**
 * Runs a route's handler under its claim, or answers with the response of the first run. What is stored is what went over the wire; the
 * client gets the end of it only once it is stored, or storing has failed.
 */
export async function answer(
  { tap }: HttpExchange,
  claim: Claim,
  handler: () => unknown,
  options: ExchangeOptions,
): Promise<unknown> {
  if (claim.kind === 'replay') {
    if (claim.result.kind !== 'http') return replayed(claim.result);
    const response = decodeWire(claim.result.bytes);
    tap.replay(response);
    // What is returned here is dropped on the way out, but a @Redirect() route asks it for its url first.
    return response.headers.location ? { url: response.headers.location } : undefined;
  }
  const { run } = claim;
  // Before the handler: one that takes @Res() may send its response before it returns.
  tap.record(options.maxResultBytes, (recording) => keep(run, recording, options.maxResultBytes));
  try {
    return await run.within(handler);
  } catch (error) {
    const policy = decide(options.onError, error);
    if (policy === 'release') {
      tap.pass();
      await run.release();
    } else if (policy === 'hold' || !isClientError(error)) {
      tap.pass();
      await run.complete(tombstone('outcome-unknown'));
    }
    throw error;
  }
}

async function keep(run: ClaimedRun, recording: Recording, maxBytes: number): Promise<void> {
  if (recording.kind !== 'complete') {
    return await run.complete(tombstone(recording.kind === 'too-large' ? 'too-large' : 'response-aborted'));
  }
  const { response } = recording;
  if (response.status >= 500) return await run.complete(tombstone('response-failed'));
  await run.complete(limited({ kind: 'http', bytes: encodeWire(response) }, maxBytes + 65_536));
}
