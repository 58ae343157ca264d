import type { RetryBackOff } from './back-off.js';

/** The ways in which a delivery ends. */
export const Verdict = {
  /** The job is done, and gone. */
  Ack: 'ack',
  /**
   * The delivery failed: the job waits, or with no delay goes to the end of the queue. When it was
   * the last one, to the dead letters.
   */
  Retry: 'retry',
  /**
   * To the head of the queue. It counts as no delivery: its process ends, which is no fault of the
   * job.
   */
  Release: 'release',
  /** The job waits. It counts as no delivery: it was refused for that long. */
  Defer: 'defer',
  /** To the dead letters at once. */
  Bury: 'bury',
} as const;

export type Verdict = (typeof Verdict)[keyof typeof Verdict];

/** The result of settling a delivery. */
export const Settled = {
  Done: 'done',
  /** It is in the dead letters. */
  Dead: 'dead',
  /** The lease had been lost: nothing was done. */
  Lost: 'lost',
} as const;

export type Settled = (typeof Settled)[keyof typeof Settled];

/**
 * The jobs that a take may return. A job whose lease has ended is a suspect: it may have killed its
 * process.
 */
export const TakeMode = {
  /** Suspects first, then others. */
  Any: 'any',
  /** Others only; the answer tells whether there are suspects. */
  Fresh: 'fresh',
  /** One suspect only: its process holds nothing else. */
  Alone: 'alone',
} as const;

export type TakeMode = (typeof TakeMode)[keyof typeof TakeMode];

/** The taker: a consumer, or code that calls `take`. */
export type Taker = 'hand' | 'consumer';

/** A job to be taken with an end. */
export interface NextTake {
  readonly mode: TakeMode;
  readonly by: Taker;
}

/** A job that was taken, and its delivery. */
export interface Delivery {
  readonly id: string;
  /**
   * Number of deliveries of the job that had ended before. It only grows, so with the job's id it
   * names this one.
   */
  readonly fence: string;
  /**
   * The number of its deliveries, this time included; deliveries that were given back or that a
   * requeue has forgiven do not count.
   */
  readonly deliveries: number;
  /** Size of the payload, in bytes. */
  readonly size: number;
  /** Absent when it is too large to travel with others. */
  readonly payload: Buffer | undefined;
  /** The trace context of the push, or ''. */
  readonly trace: string;
  /** The job's own back-off. */
  readonly retry: RetryBackOff | undefined;
}
