/** A job that a transaction can complete: a `QueueJob`. */
export interface CompletableJob {
  readonly id: string;
  readonly deliveries: number;
  ack(): Promise<boolean>;
}
