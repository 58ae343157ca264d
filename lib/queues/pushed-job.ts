import type { RetryBackOff } from './back-off.js';

/** A job to be pushed. */
export interface Job {
  readonly id: string;
  /** Not shared with other code: it is sent at the end of the turn, or later. */
  readonly payload: string | Buffer;
  /** The trace context of the push. */
  readonly trace: string | undefined;
  /** After how many milliseconds it may be taken. */
  readonly delayMs: number;
  /** The job's own back-off. */
  readonly retry: RetryBackOff | undefined;
}

/** Metadata of a job beside its payload. */
interface JobContext {
  /** The trace context of the push, or ''. */
  readonly trace: string;
  readonly retry: RetryBackOff | undefined;
}

/**
 * The context of a job as its history holds it: `<trace>`, or `<trace>/<minMs>-<maxMs>` where it
 * has a back-off of its own; '' for none. A trace context has no slash.
 */
export function contextOf({ trace = '', retry }: Pick<Job, 'trace' | 'retry'>): string {
  return retry ? `${trace}/${retry.minMs ?? ''}-${retry.maxMs ?? ''}` : trace;
}

export function readContext(text: string): JobContext {
  const at = text.indexOf('/');
  if (at === -1) return { trace: text, retry: undefined };
  const [minMs = '', maxMs = ''] = text.slice(at + 1).split('-');
  return {
    trace: text.slice(0, at),
    retry: { ...(minMs !== '' && { minMs: Number(minMs) }), ...(maxMs !== '' && { maxMs: Number(maxMs) }) },
  };
}

/**
 * The history that a job begins with, as `QueueKeys.history` describes it; undefined for a job
 * without a context.
 */
export function firstHistory(job: Job): string | undefined {
  const context = contextOf(job);
  return context === '' ? undefined : `0:0:0:${context}:`;
}
