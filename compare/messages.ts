import type { JobName } from './tool.js';

/** Moments of a call at which its process can be struck. */
export type Moment = 'before' | 'after' | 'inside';

/** To a process with a peer. */
export type ToActor =
  | { readonly id: number; readonly call: Call }
  | { readonly resume: number; readonly stallMs: number }
  | { readonly close: true };

export interface Call {
  readonly key: string;
  /** The amount that an update adds to the value. */
  readonly entry?: string;
  /** Asks a queue if it is idle, and pushes nothing. */
  readonly isIdle?: true;
  /** Blocks the event loop for so long once the call is on its way. */
  readonly stallMs?: number;
}

/** From a process with a peer. */
export type FromActor =
  | { readonly ready: true }
  | { readonly id: number; readonly told: Told }
  | { readonly pause: number; readonly moment: Moment; readonly key: string };

/**
 * The answer that the caller gets. `held`: the key is kept for an operator. `gone`: its process
 * died.
 */
export type Told =
  | { readonly kind: 'ok'; readonly value: unknown }
  | { readonly kind: 'not-applied' | 'unknown' | 'held'; readonly error: string }
  | { readonly kind: 'gone' | 'no answer' };

export interface ActorData {
  readonly job: JobName;
  readonly file: string;
  readonly url: string;
  /** The harness's own Redis, which no fault reaches. */
  readonly witnessUrl: string;
}
