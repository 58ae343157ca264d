import { describe, OutcomeUnknownError, type NotReplicatedError } from '../atomic-redis.errors.js';
import { Deadline } from '../redis/deadline.js';
import { answeredBy, patienceOf, type DurabilityOptions } from '../redis/durability.js';
import type { RedisConnection } from '../redis/redis-connection.js';

/** One operation on a counter as the script takes it, without its time limit. */
export type OperationFields = readonly [
  kind: 'add' | 'undo' | 'reset',
  amount: string,
  min: string,
  max: string,
  ttlMs: string,
  detail: string,
];

/** What was answered to a batch. */
export interface BatchAnswer {
  /** One for each operation. */
  readonly answers: readonly string[];
  /** When replicas did not have it in time. */
  readonly unreplicated?: NotReplicatedError | undefined;
}

/** Sends one batch. `operations` are the script's arguments. */
export type SendBatch = (key: string, operations: string[], deadline: Deadline) => Promise<BatchAnswer>;

interface Waiting {
  readonly fields: OperationFields;
  readonly deadline: Deadline;
  state: 'queued' | 'sent' | 'settled';
  readonly resolve: (answer: string) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Gathers the operations on each key into batches.
 *
 * At most one batch per key is under way. That makes the sequence numbers of a key's batches arrive in their order, so that any copy
 * which arrives after a newer batch is known to be old; and it lets what comes meanwhile share the next round trip.
 */
export class CounterQueue {
  private readonly queues = new Map<string, Waiting[]>();

  constructor(
    private readonly connection: RedisConnection,
    private readonly maxBatchSize: number,
    /** Of every batch. */
    private readonly durability: DurabilityOptions | undefined,
    private readonly send: SendBatch,
  ) {}

  /** Keys with operations under way. */
  get size(): number {
    return this.queues.size;
  }

  /**
   * Resolves with the script's answer to this operation.
   *
   * @throws RedisUnavailableError when the deadline passes before it is sent
   * @throws OutcomeUnknownError when the deadline passes after it was sent
   * @throws NotReplicatedError with that answer, when replicas did not have it in time
   */
  add(key: string, fields: OperationFields, deadline: Deadline): Promise<string> {
    let waiting!: Waiting;
    const answer = new Promise<string>((resolve, reject) => {
      waiting = { fields, deadline, state: 'queued', resolve, reject };
    });
    const queue = this.queues.get(key);
    if (queue) {
      queue.push(waiting);
    } else {
      const started = [waiting];
      this.queues.set(key, started);
      // After what the caller does in this tick, so that adds made together travel together.
      queueMicrotask(() => void this.drain(key, started));
    }
    const inTime = deadline.race(answer, () => this.tooLate(waiting));
    return this.durability ? orReplicated(inTime, answer, waiting, this.durability) : inTime;
  }

  /** Sends batch after batch until nothing is queued. Never rejects: errors go to the callers they concern. */
  private async drain(key: string, queue: Waiting[]): Promise<void> {
    for (;;) {
      const queued = queue.filter(({ state }) => state === 'queued');
      queue.splice(0, queue.length, ...queued);
      if (queued.length === 0) break;
      try {
        // Not taken into a batch before it can be written in this same tick: one that gives up until then is known not to have been sent.
        const latest = latestOf(queued);
        const slot = this.slotOf(key);
        if (this.connection.knownServerTime(latest, slot) === undefined)
          await this.connection.inServerTime(latest, slot);
      } catch (error) {
        fail(queued, error);
        continue;
      }
      const batch = queue.splice(0, this.maxBatchSize);
      // Their timers are about to say the same.
      const late = batch.filter(({ deadline }) => deadline.passed);
      if (late.length > 0) fail(late, this.connection.unavailable());
      const inTime = batch.filter(({ state }) => state === 'queued');
      if (inTime.length > 0) await this.sendBatch(key, inTime);
    }
    this.queues.delete(key);
  }

  private async sendBatch(key: string, batch: readonly Waiting[]): Promise<void> {
    const deadline = latestOf(batch);
    this.connection.observer.batch(batch.length);
    const operations: string[] = [];
    for (const operation of batch) {
      operation.state = 'sent';
      // Rounded up, so that none takes effect after its caller gave up, whoever shares its batch.
      operations.push(...operation.fields, String(Math.ceil(deadline.at - operation.deadline.at)));
    }
    try {
      const { answers, unreplicated } = await this.send(key, operations, deadline);
      if (answers.length !== batch.length) {
        throw new OutcomeUnknownError(
          `Redis gave ${answers.length} answers to ${batch.length} operations on counter ${describe(key)}`,
        );
      }
      batch.forEach((operation, i) => {
        operation.state = 'settled';
        if (unreplicated) operation.reject(unreplicated.withResult(answers[i]));
        else operation.resolve(answers[i]!);
      });
    } catch (error) {
      fail(batch, error);
    }
  }

  private slotOf(key: string): number {
    return this.connection.isCluster ? this.connection.keys.slotOf(key) : 0;
  }

  private tooLate(waiting: Waiting): Error {
    if (waiting.state === 'queued') {
      waiting.state = 'settled';
      return this.connection.unavailable();
    }
    return new OutcomeUnknownError(
      `An operation on a counter was sent to Redis at ${this.connection.address} and not answered in time; it may have taken effect`,
    );
  }
}

/** One that was sent, and not answered in time, may be waiting for replicas. */
async function orReplicated(
  inTime: Promise<string>,
  answer: Promise<string>,
  waiting: Waiting,
  durability: DurabilityOptions,
): Promise<string> {
  try {
    return await inTime;
  } catch (error) {
    if (waiting.state !== 'sent') throw error;
    return await answeredBy(patienceOf(durability)).race(answer, () => error as Error);
  }
}

const latestOf = (operations: readonly Waiting[]): Deadline =>
  Deadline.latest(operations.map(({ deadline }) => deadline));

/** Answers the callers that have not been answered yet. */
function fail(operations: readonly Waiting[], error: unknown): void {
  for (const operation of operations) {
    operation.state = 'settled';
    operation.reject(error);
  }
}
