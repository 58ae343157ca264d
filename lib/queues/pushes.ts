import type { OperationOptions } from '../operations/operation.options.js';
import { assertOutsideTransaction, Propagation } from '../runtime/transaction-scope.js';
import { Gathering } from './gathering.js';
import { push } from './push.operations.js';
import type { Job } from './pushed-job.js';
import type { QueueAccess } from './queue-access.js';

/** Payloads that the pushes of one script bring, so that none is held up for long by the others. */
const MAX_BYTES = 256 * 1_024;

/** What a job takes on the wire beside its payload. */
const JOB_BYTES = 50;

/** Pushes to one queue. Those of one turn of the event loop are one script. */
export class Pushes {
  private readonly gathering: Gathering<readonly Job[], OperationOptions, void>;

  constructor(private readonly to: QueueAccess) {
    this.gathering = new Gathering(to.redis.inFlight, {
      maxSize: MAX_BYTES,
      // What one waits for of the replicas is told to it alone.
      join: (a, b) =>
        a.timeoutMs === b.timeoutMs && a.deduplicate === b.deduplicate && !a.durability && !b.durability
          ? a
          : undefined,
      send: (pushes, options) => this.send(pushes, options),
    });
  }

  push(jobs: readonly Job[], options: OperationOptions): Promise<void> {
    assertOutsideTransaction(`Pushing to ${this.to.title}`, options.propagation, 'tx.push');
    let bytes = 0;
    for (const { payload } of jobs) bytes += payload.length + JOB_BYTES;
    return this.gathering.call(jobs, options, bytes);
  }

  private async send(pushes: readonly (readonly Job[])[], options: OperationOptions): Promise<void[]> {
    const jobs = pushes.length === 1 ? pushes[0]! : pushes.flat();
    const alone = { ...options, propagation: Propagation.Outside } as const;
    await this.to.redis.operations.part(push, { to: this.to, jobs }, alone);
    return pushes.map(() => undefined);
  }
}
