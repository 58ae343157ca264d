import { randomInt } from 'node:crypto';
import { describe, OutcomeUnknownError, type LeaseLostError } from '../atomic-redis.errors.js';
import type { OperationType } from '../observability/event-types.js';
import type { Observer, Operation } from '../observability/observer.js';
import { Deadline } from '../redis/deadline.js';
import type { OperationOptions, OperationRunner } from '../redis/operation-runner.js';
import { randomId } from '../redis/random-id.js';
import type { RedisConnection } from '../redis/redis-connection.js';
import type { NamedValues, Script } from '../redis/script.js';
import type { ScriptRunner } from '../redis/script-runner.js';
import type { WorkInFlight } from '../redis/work-in-flight.js';
import { advanceScript, type Settled, type Verdict } from './advance.script.js';
import { countsScript } from './counts.script.js';
import { extendScript } from './extend.script.js';
import { lapsedScript } from './lapsed.script.js';
import { listDeadScript } from './list-dead.script.js';
import { pushScript } from './push.script.js';
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

/** One delivery of a job: no other has its id and fence. */
export interface Delivery {
  readonly id: string;
  readonly fence: string;
  readonly deliveries: number;
  readonly payload: Buffer;
}

export interface Settlement {
  readonly verdict: Verdict;
  readonly delivery: Pick<Delivery, 'id' | 'fence'>;
  /** Why it failed. */
  readonly failure?: string | undefined;
}

export interface TakeSettings {
  readonly leaseMs: number;
  /** Whether the consumer waits by BLMOVE when there is nothing to take. */
  readonly willWait: boolean;
}

export interface RedisAccess {
  readonly connection: RedisConnection;
  readonly operations: OperationRunner;
  readonly scripts: ScriptRunner;
  readonly inFlight: WorkInFlight;
  readonly observer: Observer;
  readonly timeoutMs: number;
}

/** The scripts on one queue, as one consumer: the process's share in the queue, with a processing list of its own. */
export class QueueCommands {
  readonly keys: QueueKeys;
  /** Never used before, so that nobody else's BLMOVE is under way into its list. */
  private readonly consumer = randomId('base64url');
  readonly processing: string;
  /** For messages. */
  private readonly name: string;
  private reclaimedAt = performance.now();

  constructor(
    readonly queue: string,
    private readonly redis: RedisAccess,
  ) {
    this.keys = queueKeys(redis.connection.keys, queue);
    this.processing = this.keys.processing(this.consumer);
    this.name = `queue ${describe(queue)}`;
  }

  /** Runs an operation of the queue, and tells of its end. */
  observe<T>(type: OperationType, work: () => Promise<T>, changed?: (result: T) => boolean): Promise<T> {
    const { observer } = this.redis;
    return observer.operation(type, work, { name: this.queue, ...(changed && { changed }) });
  }

  /** For a delivery, whose end is elsewhere. */
  beginProcessing(): Operation {
    return this.redis.observer.begin('queues.process', this.queue);
  }

  /** Tells that a job's lease was lost. */
  leaseLost({ code }: LeaseLostError): void {
    this.redis.observer.occurred({ type: 'lease.lost', pattern: 'queues', name: this.queue, error: code });
  }

  push(
    jobs: readonly (readonly [id: string, payload: string | Buffer])[],
    options: OperationOptions,
  ): Promise<void> {
    const { pending, jobs: all } = this.keys;
    const args = { idsAndPayloads: jobs.flat() };
    return this.redis.operations.run(
      `Pushing to ${this.name}`,
      pushScript,
      this.queue,
      { pending, jobs: all },
      args,
      options,
    );
  }

  /** Ends a delivery, takes a job, or both, in one round trip. */
  advance(
    settlement: Settlement | undefined,
    take: TakeSettings | undefined,
    maxDeliveries: number,
    options: QueueCallOptions,
  ): Promise<{ settled: Settled; taken: Delivery | undefined }> {
    const { pending, jobs, deliveries, leases, dead, failures, consumers } = this.keys;
    return this.redis.operations.run(
      `${settlement ? 'Ending a job of' : 'Taking from'} ${this.name}`,
      advanceScript,
      this.queue,
      {
        processing: this.processing,
        pending,
        jobs,
        deliveries,
        leases,
        dead,
        failures,
        consumers,
      },
      {
        verdict: settlement?.verdict ?? '',
        id: settlement?.delivery.id ?? '',
        fence: settlement?.delivery.fence ?? '',
        failure: settlement?.failure ?? '',
        maxDeliveries,
        leaseMs: take?.leaseMs ?? '',
        consumer: take?.willWait ? this.consumer : '',
      },
      options,
    );
  }

  async extend(
    { id, fence }: Pick<Delivery, 'id' | 'fence'>,
    leaseMs: number,
    options: QueueCallOptions,
  ): Promise<boolean> {
    const { deliveries, leases } = this.keys;
    return await this.redis.operations.run(
      `Extending a lease of ${this.name}`,
      extendScript,
      this.queue,
      { deliveries, leases },
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
      await this.reclaimFrom(lapsed, GRACE_MS, FORGET_MS, Deadline.in(this.redis.timeoutMs));
    }
  }

  /** Gives back what this consumer was given and did not lease. `forget`: no BLMOVE of its own can arrive any more. */
  async giveBack(forget: boolean, deadline: Deadline): Promise<void> {
    await this.reclaimFrom([this.consumer], -1, forget ? -1 : FORGET_MS, deadline);
  }

  private async reclaimFrom(
    consumers: readonly string[],
    graceMs: number,
    forgetMs: number,
    deadline: Deadline,
  ): Promise<void> {
    const { scripts, inFlight } = this.redis;
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
    const { dead, jobs, deliveries, failures } = this.keys;
    return await this.read(listDeadScript, { dead, jobs, deliveries, failures }, { offset, limit }, options);
  }

  /** @param which ids, or how many of those that died first */
  async takeDead(
    action: 'requeue' | 'purge',
    which: readonly string[] | number,
    options: QueueCallOptions,
  ): Promise<number> {
    const { dead, pending, jobs, deliveries, failures } = this.keys;
    const byNumber = typeof which === 'number';
    return await this.redis.operations.run(
      `Taking from the dead letters of ${this.name}`,
      takeDeadScript,
      this.queue,
      { dead, pending, jobs, deliveries, failures },
      { action, limit: byNumber ? which : '', ids: byNumber ? [] : which },
      options,
    );
  }

  private async read<Keys extends readonly string[], Args extends readonly string[], Reply>(
    script: Script<Keys, Args, Reply>,
    keys: NamedValues<Keys, string>,
    args: Parameters<typeof this.redis.scripts.run<Keys, Args, Reply>>[2],
    { timeoutMs = this.redis.timeoutMs }: { timeoutMs?: number },
  ): Promise<Reply> {
    const { scripts, inFlight, connection } = this.redis;
    return await inFlight.track(() =>
      scripts.run(script, keys, args, Deadline.in(timeoutMs)).catch((error: unknown) => {
        // A read has no outcome to be unknown.
        throw error instanceof OutcomeUnknownError ? connection.unavailable(error) : error;
      }),
    );
  }
}
