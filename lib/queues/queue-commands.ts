import { randomInt } from 'node:crypto';
import { describe, OutcomeUnknownError, type LeaseLostError } from '../atomic-redis.errors.js';
import type { OperationType } from '../observability/event-types.js';
import type { Operation } from '../observability/observer.js';
import { Deadline } from '../redis/deadline.js';
import type { OperationOptions } from '../redis/operation-runner.js';
import { randomId } from '../redis/random-id.js';
import type { ArgumentsOf, NamedValues, Script } from '../redis/script.js';
import { advanceScript, type Delivery } from './advance.script.js';
import { Advances, type Advanced, type Settlement, type Take, type Terms } from './advances.js';
import { countsScript } from './counts.script.js';
import { extendScript } from './extend.script.js';
import { lapsedScript } from './lapsed.script.js';
import { listDeadScript } from './list-dead.script.js';
import { pushScript } from './push.script.js';
import { Pushes, type Job } from './pushes.js';
import type { QueueAccess, RedisAccess } from './queue-access.js';
import { queueKeys, type QueueKeys } from './queue-keys.js';
import type { QueueCallOptions } from './queue.options.js';
import { reclaimScript } from './reclaim.script.js';
import { takeDeadScript } from './take-dead.script.js';

export const QUEUE_SCRIPTS: readonly Script[] = [
  pushScript,
  advanceScript,
  extendScript,
  lapsedScript,
  reclaimScript,
  countsScript,
  listDeadScript,
  takeDeadScript,
];

/** How long a consumer may not show before others look into its processing list. It shows every second while it waits. */
const GRACE_MS = 5_000;

/** How long others go on looking, for a BLMOVE that arrives after its sender is gone. */
const FORGET_MS = 3_600_000;

/** Processing lists that are looked into at a time. */
const MAX_LISTS = 100;

/** The scripts on one queue, as one consumer: the process's share in the queue, with a processing list of its own. */
export class QueueCommands {
  private readonly access: QueueAccess;
  private readonly pushes: Pushes;
  private readonly advances: Advances;
  private reclaimedAt = performance.now();

  constructor(queue: string, redis: RedisAccess) {
    const keys = queueKeys(redis.connection.keys, queue);
    // Never used before, so that nobody else's BLMOVE is under way into its list.
    const consumer = randomId('base64url');
    const title = `queue ${describe(queue)}`;
    this.access = { redis, queue, title, keys, consumer, processing: keys.processing(consumer) };
    this.pushes = new Pushes(this.access);
    this.advances = new Advances(this.access);
  }

  get queue(): string {
    return this.access.queue;
  }

  get keys(): QueueKeys {
    return this.access.keys;
  }

  get processing(): string {
    return this.access.processing;
  }

  /** Runs an operation of the queue, and tells of its end. */
  observe<T>(type: OperationType, work: () => Promise<T>, changed?: (result: T) => boolean): Promise<T> {
    const { observer } = this.access.redis;
    return observer.operation(type, work, { name: this.queue, ...(changed && { changed }) });
  }

  /** For a delivery, whose end is elsewhere. */
  beginProcessing(): Operation {
    return this.access.redis.observer.begin('queues.process', this.queue);
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

  /** Ends a delivery, takes a job, or both, in one round trip. */
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

  /** Whether it is time to {@link reclaim}, which is done now and then. */
  get isReclaimDue(): boolean {
    return performance.now() - this.reclaimedAt >= GRACE_MS / 2;
  }

  /** Gives back what other consumers were given and did not lease. */
  async reclaim(): Promise<void> {
    this.reclaimedAt = performance.now();
    const { consumers } = this.keys;
    const lapsed = await this.read(
      lapsedScript,
      { consumers },
      { graceMs: GRACE_MS, limit: MAX_LISTS, random: randomInt(2 ** 31) },
      {},
    );
    if (lapsed.length > 0) {
      await this.reclaimFrom(lapsed, GRACE_MS, FORGET_MS, Deadline.in(this.access.redis.timeoutMs));
    }
  }

  /** Gives back what this consumer was given and did not lease. `forget`: no BLMOVE of its own can arrive any more. */
  async giveBack(forget: boolean, deadline: Deadline): Promise<void> {
    await this.reclaimFrom([this.access.consumer], -1, forget ? -1 : FORGET_MS, deadline);
  }

  private async reclaimFrom(
    consumers: readonly string[],
    graceMs: number,
    forgetMs: number,
    deadline: Deadline,
  ): Promise<void> {
    const { scripts, inFlight } = this.access.redis;
    const { pending, consumers: registry } = this.keys;
    await inFlight.track(() =>
      scripts.run(
        reclaimScript,
        { pending, registry, processing: consumers.map((one) => this.keys.processing(one)) },
        { graceMs, forgetMs, consumers },
        deadline,
      ),
    );
  }

  async counts(options: { timeoutMs?: number }) {
    const { pending, jobs, dead } = this.keys;
    return await this.read(countsScript, { pending, jobs, dead }, {}, options);
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
    const { dead, pending, jobs, history } = this.keys;
    const byNumber = typeof which === 'number';
    return await this.access.redis.operations.run(
      `Taking from the dead letters of ${this.access.title}`,
      takeDeadScript,
      this.queue,
      { dead, pending, jobs, history },
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
