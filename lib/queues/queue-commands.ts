import { describe, OutcomeUnknownError, type LeaseLostError } from '../atomic-redis.errors.js';
import type { OperationType } from '../observability/event-types.js';
import type { Operation } from '../observability/observer.js';
import { Deadline } from '../redis/deadline.js';
import type { OperationOptions } from '../redis/operation-runner.js';
import type { ArgumentsOf, NamedValues, Script } from '../redis/script.js';
import { advanceScript } from './advance.script.js';
import { Advances, type Advanced, type Settlement, type Take, type Terms } from './advances.js';
import { bellScript } from './bell.script.js';
import { countsScript } from './counts.script.js';
import type { Delivery } from './delivery.js';
import { extendScript } from './extend.script.js';
import { listDeadScript } from './list-dead.script.js';
import { pushScript } from './push.script.js';
import { Pushes, type Job } from './pushes.js';
import type { QueueAccess, RedisAccess } from './queue-access.js';
import { queueKeys, type QueueKeys } from './queue-keys.js';
import type { QueueCallOptions } from './queue.options.js';
import { takeDeadScript } from './take-dead.script.js';
import { wakeScript } from './wake.script.js';

export const QUEUE_SCRIPTS: readonly Script[] = [
  pushScript,
  advanceScript,
  extendScript,
  countsScript,
  listDeadScript,
  takeDeadScript,
  wakeScript,
  bellScript,
];

/** For passing on that there are jobs; closing has to wait for it. */
const WAKE_TIMEOUT_MS = 1_000;

/** The scripts on one queue. */
export class QueueCommands {
  private readonly access: QueueAccess;
  private readonly pushes: Pushes;
  private readonly advances: Advances;

  constructor(queue: string, redis: RedisAccess) {
    const keys = queueKeys(redis.connection.keys, queue);
    const title = `queue ${describe(queue)}`;
    this.access = { redis, queue, title, keys };
    this.pushes = new Pushes(this.access);
    this.advances = new Advances(this.access);
  }

  get queue(): string {
    return this.access.queue;
  }

  get keys(): QueueKeys {
    return this.access.keys;
  }

  /** The trace context of what is being done, which goes with the jobs that are pushed. */
  get trace(): string | undefined {
    return this.access.redis.observer.trace;
  }

  /** Runs an operation of the queue, and tells of its end. */
  observe<T>(type: OperationType, work: () => Promise<T>, changed?: (result: T) => boolean): Promise<T> {
    const { observer } = this.access.redis;
    return observer.operation(type, work, { name: this.queue, ...(changed && { changed }) });
  }

  /** For a delivery, whose end is elsewhere. */
  beginProcessing({ id, trace }: Delivery): Operation {
    return this.access.redis.observer.begin('queues.process', this.queue, { id, trace });
  }

  /** Tells that a job's lease was lost. */
  leaseLost({ code }: LeaseLostError): void {
    this.access.redis.observer.occurred({
      type: 'lease.lost',
      pattern: 'queues',
      name: this.queue,
      error: code,
    });
  }

  /** All or none of them. */
  push(jobs: readonly Job[], options: OperationOptions): Promise<void> {
    return this.pushes.push(jobs, options);
  }

  /** Ends a delivery, takes jobs, or both, in one round trip. */
  advance(
    settlement: Settlement | undefined,
    take: Take | undefined,
    terms: Terms,
    options: QueueCallOptions,
  ): Promise<Advanced> {
    return this.advances.advance(settlement, take, terms, options);
  }

  async extend(
    { id, fence }: Pick<Delivery, 'id' | 'fence'>,
    leaseMs: number,
    options: QueueCallOptions,
  ): Promise<boolean> {
    const { history, leases } = this.keys;
    return await this.access.redis.operations.run(
      `Extending a lease of ${this.access.title}`,
      extendScript,
      this.queue,
      { history, leases },
      { id, fence, leaseMs },
      options,
    );
  }

  /** Wakes another process that waits for jobs, if there are some. */
  async wake(): Promise<void> {
    const { scripts, inFlight } = this.access.redis;
    const { pending, wake, delayed } = this.keys;
    const keys = { pending, wake, delayed };
    await inFlight.track(() => scripts.run(wakeScript, keys, {}, Deadline.in(WAKE_TIMEOUT_MS)));
  }

  async counts(options: { timeoutMs?: number }) {
    const { pending, jobs, dead, delayed } = this.keys;
    return await this.read(countsScript, { pending, jobs, dead, delayed }, {}, options);
  }

  async listDead(offset: number, limit: number, options: { timeoutMs?: number }) {
    const { dead, jobs, history } = this.keys;
    return await this.read(listDeadScript, { dead, jobs, history }, { offset, limit }, options);
  }

  /** @param which ids, or how many of those that died first */
  async takeDead(
    action: 'requeue' | 'purge',
    which: readonly string[] | number,
    options: QueueCallOptions,
  ): Promise<number> {
    const { dead, pending, jobs, history, wake } = this.keys;
    const byNumber = typeof which === 'number';
    return await this.access.redis.operations.run(
      `Taking from the dead letters of ${this.access.title}`,
      takeDeadScript,
      this.queue,
      { dead, pending, jobs, history, wake },
      { action, limit: byNumber ? which : '', ids: byNumber ? [] : which },
      options,
    );
  }

  private async read<Keys extends readonly string[], Args extends readonly string[], Reply>(
    script: Script<Keys, Args, Reply>,
    keys: NamedValues<Keys, string>,
    args: ArgumentsOf<Args>,
    { timeoutMs = this.access.redis.timeoutMs }: { timeoutMs?: number },
  ): Promise<Reply> {
    const { scripts, inFlight, connection } = this.access.redis;
    return await inFlight.track(() =>
      scripts.run(script, keys, args, Deadline.in(timeoutMs)).catch((error: unknown) => {
        // A read has no outcome to be unknown.
        throw error instanceof OutcomeUnknownError ? connection.unavailable(error) : error;
      }),
    );
  }
}
