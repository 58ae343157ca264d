export interface QueueSoakJob {
  n: number;
  isPoison: boolean;
}

export interface ConsumerData {
  /** Of the fault proxy. */
  url: string;
  /** Of the server itself, for the log. */
  directUrl: string;
  queue: string;
  concurrency: number;
  leaseMs: number;
  maxDeliveries: number;
}

export const LOG_KEY = 'soak:log';
