import type { KeySpace } from '../redis/key-space.js';

/** The keys of one queue, all in the slot of its name. A job is in `pending`, in one processing list, in `leases` or in `dead`, and nowhere twice. */
export interface QueueKeys {
  /** List of job ids: the next to be taken is at its head. */
  readonly pending: string;
  /** Hash of job id to payload, from push to acknowledgement or purge. */
  readonly jobs: string;
  /**
   * Hash of job id to `<ended>:<forgiven>:<failure>`: how many of its deliveries have ended and did not do it, how many of these a requeue from the
   * dead letters has forgiven, and why the last one failed. Only of jobs that have come back.
   */
  readonly history: string;
  /** Sorted set of job id by the moment its lease ends, in Redis's time. */
  readonly leases: string;
  /** Sorted set of job id by the moment it was given up, in Redis's time. */
  readonly dead: string;
  /** Sorted set of consumer by the moment it last showed, in Redis's time: whose processing lists are to be looked into. */
  readonly consumers: string;
  /** List of the job ids that BLMOVE gave a consumer, until they are leased, which is its next step. */
  processing(consumer: string): string;
}

export function queueKeys(space: KeySpace, queue: string): QueueKeys {
  const key = (part: string): string => space.companion(`queue:${part}`, queue);
  return {
    pending: key('pending'),
    jobs: key('jobs'),
    history: key('history'),
    leases: key('leases'),
    dead: key('dead'),
    consumers: key('consumers'),
    processing: (consumer) => key(`processing:${consumer}`),
  };
}
