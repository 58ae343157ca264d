import type { OperationOptions } from '../redis/operation-runner.js';
import { assertNotRetried, Propagation } from '../redis/retried-work.js';
import { Gathering } from './gathering.js';
import { pushScript } from './push.script.js';
import type { QueueAccess } from './queue-access.js';

/** Payloads that the pushes of one script bring, so that none is held up for long by the others. */
const MAX_BYTES = 256 * 1_024;

/** What a job takes on the wire beside its payload. */
const JOB_BYTES = 50;

/** A job to be pushed. */
export interface Job {
  readonly id: string;
  /** Nobody else's: it is sent at the end of the turn, or later. */
  readonly payload: string | Buffer;
  /** The trace context of the push. */
  readonly trace: string | undefined;
  /** After how many milliseconds it may be taken. */
  readonly delayMs: number;
}

/** Pushes to one queue. Those of one turn of the event loop are one script. */
export class Pushes {
  private readonly gathering: Gathering<readonly Job[], OperationOptions, void>;

  constructor(private readonly to: QueueAccess) {
    this.gathering = new Gathering(to.redis.inFlight, {
      maxSize: MAX_BYTES,
      // What one waits for of the replicas is told to it alone.
      join: (a, b) =>
        a.timeoutMs === b.timeoutMs && a.marker === b.marker && !a.durability && !b.durability
          ? a
          : undefined,
      send: (pushes, options) => this.send(pushes, options),
    });
  }

  push(jobs: readonly Job[], options: OperationOptions): Promise<void> {
    assertNotRetried(`Pushing to ${this.to.title}`, options.propagation);
    let bytes = 0;
    for (const { payload } of jobs) bytes += payload.length + JOB_BYTES;
    return this.gathering.call(jobs, options, bytes);
  }

  private async send(pushes: readonly (readonly Job[])[], options: OperationOptions): Promise<void[]> {
    const { redis, title, queue, keys } = this.to;
    const { pending, jobs, history, wake, delayed } = keys;
    const idsAndPayloads: (string | Buffer)[] = [];
    let isTraced = false;
    let isDelayed = false;
    for (const pushed of pushes)
      for (const { id, payload, trace, delayMs } of pushed) {
        idsAndPayloads.push(id, payload);
        isTraced ||= trace !== undefined;
        isDelayed ||= delayMs > 0;
      }
    /** For each job one, with a comma behind it. */
    const listOf = (of: (job: Job) => string | number): string =>
      pushes.flatMap((pushed) => pushed.map((job) => `${of(job)},`)).join('');
    const traces = isTraced ? listOf(({ trace = '' }) => trace) : '';
    const delays = isDelayed ? listOf(({ delayMs }) => delayMs || '') : '';
    await redis.operations.run(
      `Pushing to ${title}`,
      pushScript,
      queue,
      { pending, jobs, history, wake, delayed },
      { traces, delays, idsAndPayloads },
      { ...options, propagation: Propagation.Outside },
    );
    return pushes.map(() => undefined);
  }
}
