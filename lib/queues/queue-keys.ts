import type { KeySpace } from '../scripting/key-space.js';

/**
 * The keys of one queue, all in the slot of its name. A job is in `pending`, in `delayed`, in
 * `leases` or in `dead`, and nowhere twice. None outlives the last job.
 */
export interface QueueKeys {
  /** List of job ids: the next to be taken is at its head. */
  readonly pending: string;
  /** Hash of job id to payload, from push to acknowledgement or purge. */
  readonly jobs: string;
  /**
   * Hash of job id to `<ended>:<forgiven>:<excused>:<context>:<failure>`, only of jobs that came
   * back or have a context: how many deliveries have ended without the job being done; how many of
   * these count as none, since the job was given back or requeued; how many lapsed beside other
   * jobs of their process, which may have been what killed it; the context, as `contextOf` makes
   * it; why the last delivery failed.
   */
  readonly history: string;
  /**
   * Sorted set of job id by the moment its lease ends, in Redis's time; half a millisecond more
   * where its process may hold other jobs beside it.
   */
  readonly leases: string;
  /** Sorted set of job id by the moment it was given up, in Redis's time. */
  readonly dead: string;
  /**
   * Sorted set of jobs by the moment they may be taken, in Redis's time. A member is a job's id
   * behind 21 digits that tell the order, as `luaDelay` makes it.
   */
  readonly delayed: string;
  /**
   * Sorted set with one member while there are jobs to take. BZPOPMIN waits for it: its receiver
   * looks for jobs, and puts it back if it leaves some.
   */
  readonly wake: string;
}

export function queueKeys(space: KeySpace, queue: string): QueueKeys {
  const key = (part: string): string => space.colocated(`queue:${part}`, queue);
  return {
    pending: key('pending'),
    jobs: key('jobs'),
    history: key('history'),
    leases: key('leases'),
    dead: key('dead'),
    delayed: key('delayed'),
    wake: key('wake'),
  };
}
