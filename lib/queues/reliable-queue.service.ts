import { Inject, Injectable } from '@nestjs/common';
import { OPTIONS } from '../atomic-redis.constants.js';
import type { ResolvedOptions } from '../atomic-redis.options.js';
import * as check from '../atomic-redis.validation.js';
import { Observer } from '../observability/observer.js';
import { OperationRunner } from '../redis/operation-runner.js';
import { RedisConnection } from '../redis/redis-connection.js';
import { ScriptRunner } from '../redis/script-runner.js';
import { WorkInFlight } from '../redis/work-in-flight.js';
import { Arrivals } from './arrivals.js';
import { payloadFormats } from './payload-format.js';
import { QUEUE_SCRIPTS, QueueCommands } from './queue-commands.js';
import { QueueReader } from './queue-reader.js';
import { queueOptionChecks, type QueueOptions } from './queue.options.js';
import { ReliableQueue } from './reliable-queue.js';
import { RunningConsumer } from './running-consumer.js';

const checkOptions = check.options(queueOptionChecks);

interface Share {
  readonly commands: QueueCommands;
  readonly arrivals: Arrivals;
}

/** Queues that lose no job: what a process took and did not finish comes back. */
@Injectable()
export class ReliableQueueService {
  /**
   * This process's share in each queue that is in use: its name may be made at run time, so what nobody holds any more goes. One that was waited for
   * stays, since closing takes it out of Redis.
   */
  private readonly shares = new Map<string, WeakRef<Share>>();
  private readonly waitedFor = new Set<Share>();
  private readonly collected = new FinalizationRegistry<string>((queue) => {
    if (!this.shares.get(queue)?.deref()) this.shares.delete(queue);
  });
  private readonly consumers = new Set<Pick<RunningConsumer, 'stop'>>();
  private isClosed = false;

  constructor(
    private readonly connection: RedisConnection,
    private readonly operations: OperationRunner,
    private readonly scripts: ScriptRunner,
    private readonly inFlight: WorkInFlight,
    private readonly observer: Observer,
    @Inject(OPTIONS) private readonly options: ResolvedOptions,
  ) {
    connection.preload(QUEUE_SCRIPTS);
  }

  /**
   * The queue of that name; it begins to exist with its first job. Does no I/O.
   *
   * ```ts
   * const emails = queues.get<Email>('emails');
   * await emails.push({ to: 'ada@example.org', subject: 'Your order' });
   * ```
   *
   * @throws InvalidArgumentError
   */
  get(name: string, options: QueueOptions & { format: 'bytes' }): ReliableQueue<Buffer>;
  get<T = unknown>(name: string, options?: QueueOptions & { format?: 'json' }): ReliableQueue<T>;
  get<T>(name: string, options: QueueOptions = {}): ReliableQueue<T> {
    check.key('name', name);
    checkOptions('options', options);
    const share = this.shareIn(name);
    const { commands } = share;
    const { queues } = this.options;
    const format = payloadFormats[options.format ?? 'json'];
    const reader = new QueueReader<T>(share, format, {
      leaseMs: options.leaseMs ?? queues.leaseMs,
      maxDeliveries: options.maxDeliveries ?? queues.maxDeliveries,
    });
    return new ReliableQueue<T>(commands, reader, format, (handler, concurrency, from) => {
      if (this.isClosed) throw this.connection.closedError();
      const { shutdownTimeoutMs } = this.options;
      const consumer = new RunningConsumer(from, handler, concurrency, shutdownTimeoutMs);
      this.consumers.add(consumer);
      void consumer.ended().then(() => this.consumers.delete(consumer));
      return consumer;
    });
  }

  /** Stops every consumer of this service: jobs in hand are waited for up to `timeoutMs`, the rest go back. */
  async stopConsumers(timeoutMs: number): Promise<void> {
    await Promise.all([...this.consumers].map((consumer) => consumer.stop({ timeoutMs })));
  }

  /** Ends every wait for a job. After it no job is moved. */
  async close(): Promise<void> {
    this.isClosed = true;
    // Those that were begun since the others were stopped.
    await this.stopConsumers(this.options.shutdownTimeoutMs);
    await Promise.all([...this.shares.values()].map(async (share) => await share.deref()?.arrivals.close()));
  }

  private shareIn(queue: string): Share {
    let share = this.shares.get(queue)?.deref();
    if (!share) {
      const { connection, operations, scripts, inFlight, observer } = this;
      const { timeoutMs } = this.options;
      const commands = new QueueCommands(queue, {
        connection,
        operations,
        scripts,
        inFlight,
        observer,
        timeoutMs,
      });
      const made: Share = {
        commands,
        arrivals: new Arrivals(connection, commands, () => this.waitedFor.add(made)),
      };
      if (this.isClosed) void made.arrivals.close();
      this.shares.set(queue, new WeakRef(made));
      this.collected.register(made, queue);
      share = made;
    }
    return share;
  }
}
