import {
  describe,
  NotAnIntegerError,
  NotReplicatedError,
  OutcomeUnknownError,
  RedisUnavailableError,
} from '../atomic-redis.errors.js';
import type { Deadline } from '../redis/deadline.js';
import { resultOf, type DurabilityOptions } from '../redis/durability.js';
import type { KeySpace } from '../redis/key-space.js';
import { randomId } from '../redis/random-id.js';
import type { RedisConnection } from '../redis/redis-connection.js';
import type { ScriptRunner, SendOptions } from '../redis/script-runner.js';
import { applyScript, FIELDS_PER_OPERATION, STALE } from './apply.script.js';
import { CounterQueue, type BatchAnswer, type OperationFields } from './counter-queue.js';
import type { CounterModuleOptions } from './counter.options.js';
import { CounterState, Refusal } from './lua-counter.js';

/** Whether a result that replicas did not have in time is of a change at all. */
export type IsChange<Result> = ((result: Result) => boolean) | undefined;

/** By how much a producer's state outlives the last moment at which a copy of its batch could be applied. */
const STATE_TTL_MARGIN_MS = 60_000;

/**
 * Sends operations on counters with an identity of its own: the id, which no other producer has, and one sequence of batches over all
 * keys. By these the script tells a copy of a batch from a new one.
 */
export class CounterProducer {
  private readonly id = randomId('hex');
  private sequence = 0;
  /** Of batches that are remembered, and of those that are not: these are sent once, and take no part in the sequence. */
  private readonly queues: Readonly<Record<'marked' | 'unmarked', CounterQueue>>;

  constructor(
    private readonly connection: RedisConnection,
    private readonly scripts: ScriptRunner,
    private readonly options: Required<CounterModuleOptions>,
    /** Of all it sends. */
    durability?: DurabilityOptions,
  ) {
    const queueOf = (marked: boolean): CounterQueue =>
      new CounterQueue(connection, options.maxBatchSize, durability, (key, operations, deadline) =>
        this.send(key, operations, deadline, { resend: marked, durability }),
      );
    this.queues = { marked: queueOf(true), unmarked: queueOf(false) };
  }

  /** Keys with operations under way. */
  get busyKeys(): number {
    return this.queues.marked.size + this.queues.unmarked.size;
  }

  /**
   * Resolves with what `toResult` makes of the script's answer to the operation: a result, or a refusal that only its caller can explain.
   *
   * @throws NotAnIntegerError, RedisUnavailableError, OutcomeUnknownError, RedisReplyError, and what `toResult` throws
   * @throws NotReplicatedError with the result, where `isChange`
   */
  perform<Result>(
    key: string,
    fields: OperationFields,
    deadline: Deadline,
    toResult: (answer: string) => Result,
    { marker = true, isChange }: { marker?: boolean | undefined; isChange?: IsChange<Result> } = {},
  ): Promise<Result> {
    const queue = this.queues[marker ? 'marked' : 'unmarked'];
    return resultOf(
      queue.add(key, fields, deadline),
      (answer) => {
        assertCounter(key, answer);
        if (answer === Refusal.Late) {
          throw new RedisUnavailableError(
            `Redis at ${this.connection.address} was reached after the operation's time-out`,
          );
        }
        return toResult(answer);
      },
      isChange,
    );
  }

  private async send(
    key: string,
    operations: string[],
    deadline: Deadline,
    how: SendOptions,
  ): Promise<BatchAnswer> {
    let answer: string;
    let unreplicated: NotReplicatedError | undefined;
    do {
      unreplicated = undefined;
      try {
        answer = await this.sendOnce(key, operations, deadline, how);
      } catch (error) {
        if (!(error instanceof NotReplicatedError)) throw error;
        unreplicated = error;
        answer = error.result as string;
      }
    } while (answer === CounterState.More);
    if (answer === STALE) {
      throw new OutcomeUnknownError(
        `A later batch of operations on counter ${describe(key)} was applied before this one was answered`,
      );
    }
    const isForAll = answer === CounterState.NotAnInteger || answer === CounterState.WrongType;
    const answers = isForAll
      ? Array<string>(operations.length / FIELDS_PER_OPERATION).fill(answer)
      : answer.split(',');
    return { answers, unreplicated };
  }

  private sendOnce(key: string, operations: string[], deadline: Deadline, how: SendOptions): Promise<string> {
    // Numbered when its turn has come, so that the batches of each key have growing numbers.
    const sequence = ++this.sequence;
    const { keys } = this.connection;
    return this.scripts.run(
      applyScript,
      {
        ...companionsOf(keys, key),
        producer: keys.companion(`producer:${this.id}`, key),
      },
      {
        sequence: how.resend ? sequence : '',
        stateTtlMarginMs: STATE_TTL_MARGIN_MS,
        lifeId: `${this.id}.${sequence}`,
        lifeTtlMs: this.options.undoWindowMs,
        operations,
      },
      deadline,
      how,
    );
  }
}

/** A counter and the keys that serve it whoever changes it. */
export const companionsOf = (
  keys: KeySpace,
  counter: string,
): { readonly counter: string; readonly life: string; readonly holds: string } => ({
  counter,
  life: keys.companion('life', counter),
  holds: keys.companion('holds', counter),
});

/** @throws NotAnIntegerError when the script found something else than a counter */
export function assertCounter(key: string, answer: string): void {
  if (answer === CounterState.NotAnInteger) throw new NotAnIntegerError(key, 'other-string');
  if (answer === CounterState.WrongType) throw new NotAnIntegerError(key, 'other-type');
}
