import { describe, type LeaseLostError } from '../atomic-redis.errors.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { OperationType } from '../observability/event-types.js';
import type { ObservedCall } from '../observability/observer.js';
import type { Operation } from '../operations/operation.js';
import type { OperationOptions, QueryOptions } from '../operations/operation.options.js';
import type { SettleAndTakeTerms, Settlement } from './settle-and-take-terms.js';
import { SettleAndTake, type SettledAndTaken, type Take } from './settle-and-take.js';
import type { Delivery } from './delivery.js';
import type { RawDeadLetter } from './dead-letter.js';
import type { Job } from './pushed-job.js';
import { Pushes } from './pushes.js';
import type { QueueAccess, RedisAccess } from './queue-access.js';
import { queueKeys, type QueueKeys } from './queue-keys.js';
import type { QueueCallOptions } from './queue.options.js';
import * as operation from './queue.operations.js';

/** For passing on that there are jobs; closing has to wait for it. */
const WAKE_TIMEOUT_MS = 1_000;

/** The scripts on one queue. */
export class QueueCommands {
  readonly access: QueueAccess;
  private readonly pushes: Pushes;
  private readonly advances: SettleAndTake;

  constructor(queue: string, redis: RedisAccess) {
    const keys = queueKeys(redis.connection.keys, queue);
    const title = `queue ${describe(queue)}`;
    this.access = { redis, queue, title, keys };
    this.pushes = new Pushes(this.access);
    this.advances = new SettleAndTake(this.access);
  }

  get queue(): string {
    return this.access.queue;
  }

  get keys(): QueueKeys {
    return this.access.keys;
  }

  get connection(): RedisConnection {
    return this.access.redis.connection;
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
  beginProcessing({ id, trace }: Delivery): ObservedCall {
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
    terms: SettleAndTakeTerms,
    options: QueueCallOptions,
  ): Promise<SettledAndTaken> {
    return this.advances.settleAndTake(settlement, take, terms, options);
  }

  extend(
    { id, fence }: Pick<Delivery, 'id' | 'fence'>,
    leaseMs: number,
    options: QueueCallOptions,
  ): Promise<boolean> {
    return this.part(operation.extend, { of: this.access, id, fence, leaseMs }, options);
  }

  /** Wakes another process that waits for jobs, if there are some. */
  async wake(): Promise<void> {
    await this.access.redis.operations.part(operation.wakeAnother, this.access, {
      timeoutMs: WAKE_TIMEOUT_MS,
    });
  }

  counts(options: QueryOptions) {
    return this.part(operation.counts, this.access, options);
  }

  listDead(offset: number, limit: number, options: QueryOptions): Promise<RawDeadLetter[]> {
    return this.part(operation.listDead, { of: this.access, offset, limit }, options);
  }

  /** @param which ids, or how many, oldest first */
  takeDead(
    action: 'requeue' | 'purge',
    which: readonly string[] | number,
    options: QueueCallOptions,
  ): Promise<number> {
    return this.part(operation.takeDead, { of: this.access, action, which }, options);
  }

  private part<Given, Call, Reply, Result>(
    one: Operation<string, Given, OperationOptions, Call, Reply, Result>,
    given: Given,
    options: OperationOptions,
  ): Promise<Result> {
    const { operations, ofJobs } = this.access.redis;
    return operations.part(one, given, options, ofJobs);
  }
}
