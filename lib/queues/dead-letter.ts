/** A job that was given up. */
export interface DeadLetter<T = unknown> {
  readonly id: string;
  /** Undefined when the bytes cannot be read, or do not fit the queue's schema. */
  readonly payload: T | undefined;
  /** As they are in Redis. */
  readonly bytes: Buffer;
  readonly deliveries: number;
  /** Why its last delivery failed. */
  readonly reason: string;
  /** By Redis's clock. */
  readonly diedAt: Date;
}

/** A dead letter as Redis holds it. */
export type RawDeadLetter = Omit<DeadLetter, 'payload'>;
