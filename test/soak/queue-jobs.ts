/** What a job does to its consumer. */
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
  /** Of a job that was pushed for later, in Redis's time: it must not run before. */
  dueAtMs?: number;
}

export interface ConsumerData {
  /** Of the fault proxy, or of a slow link. */
  url: string;
  /** Of the server itself, for the log. */
  directUrl: string;
  queue: string;
  /** Whose jobs are consumed one at a time, in order. */
  ordered: string | undefined;
  concurrency: number;
  leaseMs: number;
  maxDeliveries: number;
}

export const LOG_KEY = 'soak:log';
export const ORDER_KEY = 'soak:order';
export const REFUSED_KEY = 'soak:refused';
export const EARLY_KEY = 'soak:early';
