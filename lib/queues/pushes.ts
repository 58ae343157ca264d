import {
  resolveDefaults,
  type OperationOptions,
  type ResolvedDefaults,
} from '../operations/operation.options.js';
import { TickBatcher } from '../runtime/tick-batcher.js';
import { assertOutsideTransaction, Propagation } from '../runtime/transaction-scope.js';
import { push } from './push.operations.js';
import type { Job } from './pushed-job.js';
import type { QueueAccess } from './queue-access.js';

/** The payloads of one script, in bytes: more would hold up the calls behind it. */
const MAX_BYTES = 256 * 1_024;

/** The bytes of a job on the wire beside its payload. */
const JOB_BYTES = 50;

/** One call, and its promise. */
interface Push {
  readonly jobs: readonly Job[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Pushes to one queue. Those of one turn of the event loop are one script, if they ask for the same
 * by themselves or by the defaults of their service.
 */
export class Pushes {
  private readonly batcher = new TickBatcher<Push, ResolvedDefaults>({
    maxSize: MAX_BYTES,
    join: (a, b) => (canShare(a, b) ? a : undefined),
    send: (pushes, options) => void this.send(pushes, options),
  });

  constructor(private readonly to: QueueAccess) {}

  push(jobs: readonly Job[], options: OperationOptions): Promise<void> {
    const { title, redis } = this.to;
    assertOutsideTransaction(`Pushing to ${title}`, options.propagation, 'tx.push');
    let bytes = 0;
    for (const { payload } of jobs) bytes += payload.length + JOB_BYTES;
    return new Promise((resolve, reject) => {
      // Shutdown waits for it from now on.
      redis.inFlight.enter();
      this.batcher.add({ jobs, resolve, reject }, bytes, resolveDefaults(options, redis.defaults));
    });
  }

  private async send(pushes: readonly Push[], options: ResolvedDefaults): Promise<void> {
    const { operations, inFlight } = this.to.redis;
    const jobs = pushes.length === 1 ? pushes[0]!.jobs : pushes.flatMap((one) => one.jobs);
    try {
      await operations.part(push, { to: this.to, jobs }, { propagation: Propagation.Outside }, options);
      for (const { resolve } of pushes) resolve();
    } catch (error) {
      for (const { reject } of pushes) reject(error);
    } finally {
      pushes.forEach(() => inFlight.leave());
    }
  }
}

/**
 * A push that waits for replicas has a script of its own, since only its caller learns if they had
 * it.
 */
const canShare = (a: ResolvedDefaults, b: ResolvedDefaults): boolean =>
  a.timeoutMs === b.timeoutMs && a.deduplicate === b.deduplicate && !a.durability && !b.durability;
