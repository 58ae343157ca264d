/** A job to be pushed. */
export interface Job {
  readonly id: string;
  /** Not shared with other code: it is sent at the end of the turn, or later. */
  readonly payload: string | Buffer;
  /** The trace context of the push. */
  readonly trace: string | undefined;
  /** After how many milliseconds it may be taken. */
  readonly delayMs: number;
}

/** The history that a job begins with, as `QueueKeys.history` describes it; undefined for a job without one. */
export const firstHistory = ({ trace }: Job): string | undefined =>
  trace === undefined ? undefined : `0:0:0:${trace}:`;
