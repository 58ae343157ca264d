import { randomBytes } from 'node:crypto';
import { OutcomeUnknownError, RedisUnavailableError } from '../atomic-redis.errors.js';
import type { Deadline } from '../redis/deadline.js';
import type { RedisConnection } from '../redis/redis-connection.js';
import type { ScriptRunner } from '../redis/script-runner.js';
import { applyScript, BatchAnswer, FIELDS_PER_OPERATION, Refusal } from './apply.script.js';
import { CounterQueue, type OperationFields } from './counter-queue.js';
import { NotAnIntegerError } from './counter.errors.js';
import type { CounterModuleOptions } from './counter.options.js';

/** By how much a producer's state outlives the last moment at which a copy of its batch could be applied. */
const STATE_TTL_MARGIN_MS = 60_000;

/**
 * Sends operations on counters with an identity of its own: the id, which no other producer has, and one sequence of batches over all
 * keys. By these the script tells a copy of a batch from a new one.
 */
export class CounterProducer {
  private readonly id = randomBytes(16).toString('hex');
  private sequence = 0;
  private readonly queue: CounterQueue;

  constructor(
    private readonly connection: RedisConnection,
    private readonly scripts: ScriptRunner,
    private readonly options: Required<CounterModuleOptions>,
  ) {
    this.queue = new CounterQueue(connection, options.maxBatchSize, (key, operations, deadline) =>
      this.send(key, operations, deadline),
    );
  }

  /** Keys with operations under way. */
  get busyKeys(): number {
    return this.queue.size;
  }

  /**
   * Resolves with the script's answer to the operation: a result, or a refusal that only its caller can explain.
   *
   * @throws NotAnIntegerError, RedisUnavailableError, OutcomeUnknownError, RedisReplyError
   */
  async perform(key: string, fields: OperationFields, deadline: Deadline): Promise<string> {
    const answer = await this.queue.add(key, fields, deadline);
    assertCounter(key, answer);
    if (answer === Refusal.Late) {
      throw new RedisUnavailableError(
        `Redis at ${this.connection.address} was reached after the operation's time-out`,
      );
    }
    return answer;
  }

  private async send(key: string, operations: string[], deadline: Deadline): Promise<readonly string[]> {
    // Numbered when its turn has come, so that the batches of each key have growing numbers.
    const sequence = ++this.sequence;
    const { keys } = this.connection;
    const answer = await this.scripts.run(
      applyScript,
      {
        counter: key,
        producer: keys.companion(`producer:${this.id}`, key),
        life: keys.companion('life', key),
      },
      {
        sequence,
        stateTtlMarginMs: STATE_TTL_MARGIN_MS,
        lifeId: `${this.id}.${sequence}`,
        lifeTtlMs: this.options.undoWindowMs,
        operations,
      },
      deadline,
    );
    if (answer === BatchAnswer.Stale) {
      throw new OutcomeUnknownError(
        `A later batch of operations on counter ${key} was applied before this one was answered`,
      );
    }
    const isForAll = answer === BatchAnswer.NotAnInteger || answer === BatchAnswer.WrongType;
    return isForAll
      ? Array<string>(operations.length / FIELDS_PER_OPERATION).fill(answer)
      : answer.split(',');
  }
}

/** @throws NotAnIntegerError when the script found something else than a counter */
export function assertCounter(key: string, answer: string): void {
  if (answer === BatchAnswer.NotAnInteger) throw new NotAnIntegerError(key, 'other-string');
  if (answer === BatchAnswer.WrongType) throw new NotAnIntegerError(key, 'other-type');
}
