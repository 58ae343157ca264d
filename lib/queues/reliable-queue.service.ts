import { Inject, Injectable } from '@nestjs/common';
import { OPTIONS } from '../atomic-redis.constants.js';
import { InvalidArgumentError } from '../atomic-redis.errors.js';
import type { ResolvedOptions } from '../atomic-redis.options.js';
import * as check from '../atomic-redis.validation.js';
import { Observer } from '../observability/observer.js';
import { OperationRunner } from '../operations/operation-runner.js';
import { RedisConnection } from '../connection/redis-connection.js';
import { WorkInFlight } from '../runtime/work-in-flight.js';
import { resolveRetry } from './back-off.js';
import { Hands } from './hands.js';
import { JobNotifier } from './job-notifier.js';
import { JobWaiters } from './job-waiters.js';
import { LargePayloads } from './large-payloads.js';
import { payloadFormat } from './payload-format.js';
import { PayloadLimits } from './payload-limits.js';
import { QueueCommands } from './queue-commands.js';
import { isQueueDefinition, type QueueDefinition } from './queue-definition.js';
import { QueueReader, type QueueShare } from './queue-reader.js';
import { queueOptionChecks, type QueueOptions } from './queue.options.js';
import { ReliableQueue } from './reliable-queue.js';
import { RunningConsumer } from './running-consumer.js';
import type { StandardSchema } from './standard-schema.js';

const checkOptions = check.options(queueOptionChecks);

/**
 * Traffic that needs its own connections: one for all queues, and one for each slot on a Cluster.
 */
interface SlotChannels {
  readonly notifier: JobNotifier;
  readonly payloads: LargePayloads;
}

/** Queues that lose no job: what a process took and did not finish comes back. */
@Injectable()
export class ReliableQueueService {
  /**
   * This process's share in each queue that is in use: its name may be made at run time, so
   * unreferenced shares are dropped.
   */
  private readonly shares = new Map<string, WeakRef<QueueShare>>();
  private readonly channels = new Map<number, SlotChannels>();
  private readonly hands = new Hands();
  private readonly limits: PayloadLimits;
  private readonly collected = new FinalizationRegistry<string>((queue) => {
    if (!this.shares.get(queue)?.deref()) this.shares.delete(queue);
  });
  private readonly consumers = new Set<Pick<RunningConsumer, 'stop' | 'stopAll'>>();
  private isClosed = false;

  /** @internal */
  constructor(
    private readonly connection: RedisConnection,
    private readonly operations: OperationRunner,
    private readonly inFlight: WorkInFlight,
    private readonly observer: Observer,
    @Inject(OPTIONS) private readonly options: ResolvedOptions,
  ) {
    this.limits = new PayloadLimits(connection);
  }

  /**
   * The queue of that name, or that `defineQueue` has defined; it begins to exist with its first
   * job. Does no I/O.
   *
   * ```ts
   * const emails = queues.get<Email>('emails');
   * await emails.push({ to: 'ada@example.org', subject: 'Your order' });
   * ```
   *
   * @throws InvalidArgumentError
   */
  get<Payload, Pushed>(definition: QueueDefinition<Payload, Pushed>): ReliableQueue<Payload, Pushed>;
  get(name: string, options: QueueOptions & { format: 'bytes' }): ReliableQueue<Buffer>;
  get<T = unknown>(name: string, options?: QueueOptions & { format?: 'json' }): ReliableQueue<T>;
  get<T>(given: string | QueueDefinition, options: QueueOptions = {}): ReliableQueue<T> {
    if (!isQueueDefinition(given)) {
      check.key('name', given);
      checkOptions('options', options);
      return this.open(given, options, undefined);
    }
    if (Object.keys(options).length > 0)
      throw new InvalidArgumentError('options', 'absent: the definition of a queue has its options', options);
    // A definition is no name that is made at run time.
    this.observer.declareQueue(given.name);
    const { schema, ...rest } = given.options;
    return this.open(given.name, rest, schema);
  }

  private open<T>(name: string, options: QueueOptions, schema: StandardSchema | undefined): ReliableQueue<T> {
    const share = this.shareIn(name);
    const { commands } = share;
    const { queues, services } = this.options;
    const format = payloadFormat(name, options.format ?? 'json', schema);
    const terms = {
      leaseMs: options.leaseMs ?? queues.leaseMs,
      maxDeliveries: options.maxDeliveries ?? queues.maxDeliveries,
    };
    const retry = resolveRetry(queues.retry, options.retry);
    const reader = new QueueReader<T>(share, format, terms, retry, this.hands, services.queues.timeoutMs);
    return new ReliableQueue<T>(commands, reader, format, this.limits, (handler, concurrency, from) => {
      if (this.isClosed) throw this.connection.closedError();
      const { shutdownTimeoutMs } = this.options;
      const consumer = new RunningConsumer(from, handler, concurrency, shutdownTimeoutMs);
      this.consumers.add(consumer);
      void consumer.ended().then(() => this.consumers.delete(consumer));
      return consumer;
    });
  }

  /**
   * Stops every consumer of this service: jobs in hand are waited for up to `timeoutMs`, the rest
   * go back.
   * @internal
   */
  async stopConsumers(timeoutMs: number): Promise<void> {
    await Promise.all([...this.consumers].map((consumer) => consumer.stopAll(timeoutMs)));
  }

  /** Ends every wait for a job. After it no job is moved. @internal */
  async close(): Promise<void> {
    this.isClosed = true;
    // Includes consumers that were started since the others were stopped.
    await this.stopConsumers(this.options.shutdownTimeoutMs);
    this.hands.close();
    for (const share of this.shares.values()) share.deref()?.waiters.close();
    await Promise.all(
      [...this.channels.values()].map(({ notifier, payloads }) => {
        payloads.close();
        return notifier.close();
      }),
    );
  }

  private shareIn(queue: string): QueueShare {
    let share = this.shares.get(queue)?.deref();
    if (!share) {
      const { connection, operations, inFlight, observer } = this;
      const { queues: defaults } = this.options.services;
      // A take or an end is fenced by its delivery, so that a copy does no harm.
      const ofJobs = { ...defaults, durability: undefined, deduplicate: true };
      const access = { connection, operations, inFlight, observer, defaults, ofJobs };
      const commands = new QueueCommands(queue, access);
      const { isCluster, keys } = connection;
      const { notifier, payloads } = this.channelsOf(isCluster ? keys.slotOf(commands.keys.wake) : 0);
      const waiters = new JobWaiters(connection, commands, notifier);
      share = { commands, waiters, payloads, suspects: false };
      if (this.isClosed) waiters.close();
      this.shares.set(queue, new WeakRef(share));
      this.collected.register(share, queue);
    }
    return share;
  }

  private channelsOf(slot: number): SlotChannels {
    let channels = this.channels.get(slot);
    if (!channels) {
      const { connection, operations } = this;
      channels = {
        notifier: new JobNotifier(connection, operations, slot),
        payloads: new LargePayloads(connection, slot),
      };
      this.channels.set(slot, channels);
    }
    return channels;
  }
}
