/** A job that a transaction can complete: a `QueueJob`. @inline */
export interface CompletableJob {
  /** The id of the job. */
  readonly id: string;
  /** The number of this delivery, from 1. */
  readonly deliveries: number;
  /**
   * Acknowledges the job outside of a transaction. Resolves with false if another consumer had it
   * by then.
   */
  ack(): Promise<boolean>;
}
