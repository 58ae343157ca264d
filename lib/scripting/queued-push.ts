/** Options of `Transaction.push`. @inline */
export interface QueuedPushOptions {
  /**
   * Time that the job waits before it can be taken, by Redis's clock, in milliseconds, up to ten
   * years. It begins when EXEC is sent. @default 0
   */
  delayMs?: number;
  /**
   * Wait of this job after a failed delivery, in place of its queue's `retry`; a field that is
   * absent is the queue's.
   */
  retry?: { minMs?: number; maxMs?: number };
}

/** A queue that `Transaction.push` takes: what `ReliableQueueService.get` returns. */
export interface PushTarget<Payload> {
  /** The name of the queue. */
  readonly name: string;
  /** Pushes a job outside of a transaction. Resolves with its id. */
  push(payload: Payload): Promise<string>;
}
