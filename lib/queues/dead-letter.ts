/** A dead letter as Redis holds it. */
export interface RawDeadLetter {
  readonly id: string;
  readonly diedAt: Date;
  readonly deliveries: number;
  readonly reason: string;
  readonly bytes: Buffer;
}
