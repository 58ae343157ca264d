import { InvalidArgumentError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { resultOf } from '../connection/durability.js';
import { operationOptionChecks, type OperationOptions } from '../operations/operation.options.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { randomId } from '../runtime/random-id.js';
import { Propagation } from '../runtime/transaction-scope.js';
import { PREPARE_PUSH, type PreparedPush } from '../scripting/prepared-push.js';
import type { QueuedPushOptions } from '../scripting/queued-push.js';
import { delayMsCheck, retryCheck, type RetryBackOff } from './back-off.js';
import { DeadLetters } from './dead-letters.js';
import type { PayloadFormat } from './payload-format.js';
import type { QueueCommands } from './queue-commands.js';
import type { QueueJob } from './queue-job.js';
import type { QueueReader } from './queue-reader.js';
import { copyCallOptions, leaseMsCheck, NO_OPTIONS } from './queue.options.js';
import type { PayloadLimits } from './payload-limits.js';
import type { JobHandler, RunningConsumer } from './running-consumer.js';
import { transactionPush } from './transaction-push.js';

/** Options of `ReliableQueue.take`. @inline */
export interface TakeOptions {
  /** Time to wait for a job, in milliseconds; 0 does not wait. @default 0 */
  waitMs?: number;
  /**
   * Time for each exchange with Redis, in milliseconds; the wait is not part of it. Default: the
   * module's `timeoutMs`.
   */
  timeoutMs?: number;
  /** Time that the job belongs to its taker, in milliseconds. Default: the queue's `leaseMs`. */
  leaseMs?: number;
  /** Ends the wait: `take` rejects with its reason. */
  signal?: AbortSignal;
  /**
   * Inside a transaction, `outside` takes a job all the same, once for each attempt; without it the
   * call is refused.
   */
  propagation?: `${Propagation.Outside}`;
}

/** Options of pushes. */
export interface PushOptions extends OperationOptions {
  /**
   * Time that the job waits before it can be taken, by Redis's clock, in milliseconds, up to ten
   * years. When it is due, it is taken ahead of those that wait for their turn. @default 0
   */
  delayMs?: number;
  /**
   * Wait of this job after a failed delivery, in place of the queue's `retry`; a field that is
   * absent is the queue's.
   */
  retry?: RetryBackOff;
}

/** Options of `ReliableQueue.consume`. @inline */
export interface ConsumeOptions {
  /** Number of jobs that run at the same time. @default 1 */
  concurrency?: number;
}

/** The numbers of a queue's jobs in each place, at one moment. @inline */
type Counts = {
  /** To be taken, now or later. */
  readonly pending: number;
  /** Pending jobs with a delay: they wait for their time, or were not taken since it came. */
  readonly delayed: number;
  /** Taken and not ended. */
  readonly processing: number;
  /** In the dead letters. */
  readonly dead: number;
};

/** @inline */
export type QueueCounts = Counts;

/** Jobs that one push takes, so that it does not hold Redis up for long. */
const MAX_JOBS_PER_PUSH = 10_000;

const checkPushOptions = check.options({
  ...operationOptionChecks,
  delayMs: delayMsCheck,
  retry: retryCheck,
} satisfies Record<keyof PushOptions, check.Check>);
const checkQueuedPushOptions = check.options({
  delayMs: delayMsCheck,
  retry: retryCheck,
} satisfies Record<keyof QueuedPushOptions, check.Check>);
const checkTakeOptions = check.options({
  waitMs: check.waitMs(0),
  timeoutMs: check.waitMs(),
  leaseMs: leaseMsCheck,
  signal: check.instanceOf(AbortSignal),
  propagation: check.oneOf(Propagation.Outside),
} satisfies Record<keyof TakeOptions, check.Check>);
const checkCountsOptions = check.options({ timeoutMs: check.waitMs() });
export const consumeOptionChecks = { concurrency: check.integer(1, 10_000) } satisfies Record<
  keyof ConsumeOptions,
  check.Check
>;
const checkConsumeOptions = check.options(consumeOptionChecks);

/**
 * A queue whose jobs are delivered at least once: each is given to one taker at a time, for the
 * time of its lease, until it is acknowledged. Made by `ReliableQueueService.get`. With a schema,
 * `Pushed` is what it takes in.
 */
export class ReliableQueue<T = unknown, Pushed = T> {
  /** The jobs that were given up. */
  readonly deadLetters: DeadLetters<T>;

  /** @internal */
  constructor(
    private readonly commands: QueueCommands,
    private readonly reader: QueueReader<T>,
    private readonly format: PayloadFormat,
    private readonly limits: PayloadLimits,
    private readonly startConsumer: (
      handler: JobHandler<T>,
      concurrency: number,
      reader: QueueReader<T>,
    ) => RunningConsumer<T>,
  ) {
    this.deadLetters = new DeadLetters(commands, format);
  }

  /** As given to `queues.get`. */
  get name(): string {
    return this.commands.queue;
  }

  /**
   * Puts a job at the end of the queue, or with `delayMs` where it waits for its time, once, even
   * when the reply is lost and the command sent again. Equal payloads are different jobs.
   *
   * @returns the job's id
   * @throws InvalidArgumentError before any I/O
   * @throws InvalidPayloadError before any I/O, for a payload that does not fit the queue's schema
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was pushed
   * @throws OutcomeUnknownError when it was sent and not answered in time; if it was not pushed by
   * then, it never will be
   * @throws RedisReplyError when Redis refused it, as when its memory is full; nothing was pushed
   * @throws IllegalTransactionStateError inside an open transaction
   * @throws NotReplicatedError when it was pushed, and `durability` was not reached in time; its
   * `result` is the id
   */
  push(payload: Pushed, options: PushOptions = NO_OPTIONS): Promise<string> {
    const { commands } = this;
    return commands.observe('queues.push', async () => {
      checkPushOptions('options', options);
      const given = copyCallOptions(options);
      const { delayMs = 0, retry } = options;
      const own = retry && { ...retry };
      const bytes = this.format.encode('payload', payload);
      const checking = this.format.check?.(bytes);
      if (checking) await checking;
      const job = { id: newId(), payload: bytes, trace: commands.trace, delayMs, retry: own };
      const doubt = this.limits.check('payload', [job.payload]);
      if (doubt) await doubt;
      return await resultOf(commands.push([job], given), () => job.id);
    });
  }

  /**
   * As {@link push} for up to 10,000 jobs, all or none.
   * @returns the jobs' ids, in the order of the payloads
   */
  async pushMany(payloads: readonly Pushed[], options: PushOptions = NO_OPTIONS): Promise<string[]> {
    const { commands } = this;
    return await commands.observe(
      'queues.pushMany',
      () => this.pushAll(payloads, options),
      (ids) => ids.length > 0,
    );
  }

  /**
   * Takes a job: the one at the head, or one whose lease has ended. With `waitMs` it waits for one,
   * on a connection of its own.
   *
   * ```ts
   * const job = await queue.take({ waitMs: 5_000 });
   * if (job) { await send(job.payload); await job.ack(); }
   * ```
   *
   * @returns null when there was none in time
   * @throws InvalidArgumentError, RedisUnavailableError, IllegalTransactionStateError
   * @throws OutcomeUnknownError when it was sent and not answered in time; a job that was taken
   * comes back when its lease ends
   * @throws ModuleClosedError when the module is closed while it waits
   */
  take(options: TakeOptions = {}): Promise<QueueJob<T> | null> {
    const take = async (): Promise<QueueJob<T> | null> => {
      checkTakeOptions('options', options);
      const { waitMs = 0, timeoutMs, leaseMs, signal, propagation } = options;
      const taken = await this.reader.takeOne({
        waitMs,
        leaseMs,
        signal,
        ...(timeoutMs !== undefined && { timeoutMs }),
        ...(propagation && { propagation }),
      });
      return taken?.job ?? null;
    };
    return this.commands.observe('queues.take', take, (job) => job !== null);
  }

  /**
   * Takes jobs and runs them until it is stopped, at the latest by the application's shutdown.
   * Their leases are renewed while they run.
   *
   * @throws InvalidArgumentError, ModuleClosedError
   */
  consume(handler: JobHandler<T>, options: ConsumeOptions = {}): RunningConsumer<T> {
    check.func('handler', handler);
    checkConsumeOptions('options', options);
    return this.startConsumer(handler, options.concurrency ?? 1, this.reader);
  }

  /**
   * Returns the numbers of jobs.
   * @throws InvalidArgumentError, RedisUnavailableError
   */
  async counts(options: { timeoutMs?: number } = {}): Promise<QueueCounts> {
    const count = async (): Promise<QueueCounts> => {
      checkCountsOptions('options', options);
      return await this.commands.counts(options);
    };
    return await this.commands.observe('queues.counts', count, () => false);
  }

  /** @internal */
  [PREPARE_PUSH](transaction: RedisConnection, payload: Pushed, options: QueuedPushOptions): PreparedPush {
    checkQueuedPushOptions('options', options);
    const { delayMs = 0, retry } = options;
    const bytes = this.format.encode('payload', payload);
    const checking = this.format.check?.(bytes);
    // The work may throw, and nothing waits for it then.
    checking?.catch(() => undefined);
    const job = { id: newId(), payload: bytes, trace: this.commands.trace, delayMs, retry };
    return transactionPush(this.commands.access, transaction, job, this.limits, checking);
  }

  private async pushAll(payloads: readonly Pushed[], options: PushOptions): Promise<string[]> {
    checkPushOptions('options', options);
    if (!Array.isArray(payloads) || payloads.length > MAX_JOBS_PER_PUSH)
      throw new InvalidArgumentError('payloads', `an array of at most ${MAX_JOBS_PER_PUSH}`, payloads);
    const given = copyCallOptions(options);
    const { delayMs = 0, retry } = options;
    const own = retry && { ...retry };
    const { trace } = this.commands;
    const jobs = Array.from(payloads, (payload, i) => ({
      id: newId(),
      payload: this.format.encode(`payloads[${i}]`, payload),
      trace,
      delayMs,
      retry: own,
    }));
    const ids = jobs.map(({ id }) => id);
    if (ids.length === 0) return ids;
    const { check: checkPayload } = this.format;
    const checking = checkPayload && jobs.flatMap(({ payload }) => checkPayload(payload) ?? []);
    if (checking && checking.length > 0) await Promise.all(checking);
    const doubt = this.limits.check(
      'payloads',
      jobs.map(({ payload }) => payload),
    );
    if (doubt) await doubt;
    return await resultOf(this.commands.push(jobs, given), () => ids);
  }
}

const newId = (): string => randomId('base64url');
