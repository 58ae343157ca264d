/** The effect of a job on its consumer. */
export type QueueSoakKind =
  /** It is done. */
  | 'fine'
  /** It throws each time. */
  | 'poison'
  /** It kills its process each time. */
  | 'killer'
  /** It is refused once, for a time. */
  | 'refused'
  /** It fails once, and is done when it is delivered again. */
  | 'failing'
  /** It is done, and brings a large payload. */
  | 'large';

export interface QueueSoakJob {
  n: number;
  kind: QueueSoakKind;
  bytes?: string;
  /** Earliest start of a delayed job, in Redis's time. */
  dueAtMs?: number;
}

export interface ConsumerData {
  /** URL of the fault proxy, or of a slow link. */
  url: string;
  /** URL of the server itself, for the log. */
  directUrl: string;
  queue: string;
  /** Name of the queue whose jobs are consumed one at a time, in order. */
  ordered: string | undefined;
  concurrency: number;
  leaseMs: number;
  maxDeliveries: number;
}

export const LOG_KEY = 'soak:log';
export const ORDER_KEY = 'soak:order';
export const REFUSED_KEY = 'soak:refused';
export const EARLY_KEY = 'soak:early';
