import type { CompletableJob } from '../scripting/completable-job.js';
import type { QueueJob } from '../queues/queue-job.js';

/** Options of a job in a test. @inline */
export interface TestJobOptions {
  /** @default 'job' */
  id?: string;
  /** @default 1 */
  deliveries?: number;
}

/** A job without a queue, for unit tests of consumers. */
export interface TestJob<T> extends QueueJob<T> {
  /** The calls on it, in order. */
  readonly calls: readonly ('ack' | 'ackAndTakeNext' | 'retry' | 'extend')[];
}

type Call = TestJob<unknown>['calls'][number];

/**
 * Makes a job for a unit test of a consumer's method. Its `ack`, `retry` and `extend` are there to
 * be seen in `calls`; each answers that the lease is held.
 *
 * ```ts
 * await module.get(Mailer).send(testJob({ to: 'ada@example.org' }));
 * ```
 */
export function testJob<T>(payload: T, { id = 'job', deliveries = 1 }: TestJobOptions = {}): TestJob<T> {
  const calls: Call[] = [];
  const held = (call: Call) => (): Promise<boolean> => {
    calls.push(call);
    return Promise.resolve(true);
  };
  const job = {
    id,
    payload,
    deliveries,
    signal: new AbortController().signal,
    calls,
    ack: held('ack'),
    retry: held('retry'),
    extend: held('extend'),
    ackAndTakeNext: () => {
      calls.push('ackAndTakeNext');
      return Promise.resolve({ acked: true, next: null });
    },
  } satisfies CompletableJob & Record<keyof Omit<QueueJob<T>, symbol>, unknown> & { calls: unknown };
  return job as unknown as TestJob<T>;
}
