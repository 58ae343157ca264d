import { describe, InexactResultError, OutcomeUnknownError } from '../atomic-redis.errors.js';
import type { ResolvedOptions } from '../atomic-redis.options.js';
import * as check from '../atomic-redis.validation.js';
import type { Observer } from '../observability/observer.js';
import { Deadline } from '../redis/deadline.js';
import type { DurabilityOptions } from '../redis/durability.js';
import type { RedisConnection } from '../redis/redis-connection.js';
import { assertNotRetried } from '../redis/retried-work.js';
import type { ScriptRunner } from '../redis/script-runner.js';
import type { WorkInFlight } from '../redis/work-in-flight.js';
import {
  addFlags,
  checkAddOptions,
  checkCallOptions,
  checkWriteOptions,
  type CounterAddOptions,
  type CounterCallOptions,
  type CounterWriteOptions,
} from './counter-arguments.js';
import { assertCounter, companionsOf, CounterProducer, type IsChange } from './counter-producer.js';
import type { OperationFields } from './counter-queue.js';
import { once, parseResult, type CounterResult } from './counter-result.js';
import { CounterOverflowError } from './counter.errors.js';
import { ABSENT, CounterState, Refusal } from './lua-counter.js';
import { readScript } from './read.script.js';

/** What can be done with one counter: arguments checked, sent, and answers turned into results or errors. */
export class CounterOperations {
  /** One for each durability that is asked for: those who wait for replicas share batches with none who do not. */
  private readonly producers = new Map<string, CounterProducer>();

  constructor(
    private readonly connection: RedisConnection,
    private readonly scripts: ScriptRunner,
    private readonly inFlight: WorkInFlight,
    private readonly observer: Observer,
    private readonly options: ResolvedOptions,
  ) {}

  /**
   * @param detail `u` for one that can be undone: in the life that `toResult` is given
   * @throws InvalidArgumentError, TransactionMisuseError at once
   */
  add<Result extends CounterResult>(
    key: string,
    amount: number | bigint,
    options: CounterAddOptions,
    detail: '' | 'u',
    toResult: (added: CounterResult, life: string) => Result,
  ): Promise<Result> {
    check.key('key', key);
    check.int64('amount', amount);
    checkAddOptions('options', options);
    const { min = '', max = '', ttlMs = '' } = options;
    const flags = detail + addFlags(amount, options);
    return this.perform(
      key,
      ['add', String(amount), String(min), String(max), String(ttlMs), flags],
      options,
      (answer) => {
        if (answer === Refusal.Overflow) throw new CounterOverflowError(key, amount);
        if (answer === Refusal.Inexact) throw new InexactResultError(key, 'a bigint amount');
        const { result, life } = parseResult(answer, amount);
        return toResult(result, life);
      },
      ({ applied }) => BigInt(applied) !== 0n,
    );
  }

  /** The undo of what was applied to a counter in that life; it takes effect once. */
  undoOf(
    key: string,
    applied: number | bigint,
    life: string,
    options: CounterWriteOptions,
  ): () => Promise<boolean> {
    const fields: OperationFields = ['undo', String(applied), '', '', '', life];
    const undo = async (): Promise<boolean> =>
      await this.perform(
        key,
        fields,
        options,
        (answer) => {
          if (answer === Refusal.Overflow) throw new CounterOverflowError(key, -applied);
          return answer !== Refusal.Gone;
        },
        Boolean,
      );
    return once(async () => {
      if (BigInt(applied) === 0n) return true;
      return await this.observer.operation('counters.undo', undo, { changed: Boolean });
    });
  }

  /** @param detail `n` for a value that must be exact as a number */
  async reset(key: string, options: CounterWriteOptions, detail: 'n' | ''): Promise<bigint | null> {
    check.key('key', key);
    checkWriteOptions('options', options);
    return await this.perform(key, ['reset', '', '', '', '', detail], options, (answer) => {
      if (answer === Refusal.Inexact) throw new InexactResultError(key, 'resetBigInt');
      return valueOrNull(key, answer);
    });
  }

  async read(key: string, options: CounterCallOptions): Promise<bigint | null> {
    check.key('key', key);
    checkCallOptions('options', options);
    const { counter, holds } = companionsOf(this.connection.keys, key);
    const deadline = this.deadlineOf(options);
    const read = async (): Promise<string> => {
      for (;;) {
        const answer = await this.scripts.run(readScript, { counter, holds }, {}, deadline);
        if (answer !== CounterState.More) return answer;
        // More has expired than a read may count: an add of nothing gives it back.
        await this.producerFor(undefined).perform(key, ['add', '0', '', '', '', ''], deadline, String);
      }
    };
    const answer = await this.inFlight.track(read).catch((error: unknown) => {
      // A read has no outcome to be unknown.
      throw error instanceof OutcomeUnknownError ? this.connection.unavailable(error) : error;
    });
    return valueOrNull(key, answer);
  }

  private perform<Result>(
    key: string,
    fields: OperationFields,
    options: CounterWriteOptions,
    toResult: (answer: string) => Result,
    isChange?: IsChange<Result>,
  ): Promise<Result> {
    const { propagation, durability, marker } = options;
    assertNotRetried(`Changing counter ${describe(key)}`, propagation);
    return this.inFlight.track(() =>
      this.producerFor(durability).perform(key, fields, this.deadlineOf(options), toResult, {
        marker,
        isChange,
      }),
    );
  }

  private producerFor(durability: DurabilityOptions | undefined): CounterProducer {
    const id = durability ? [durability.replicas, durability.timeoutMs, durability.fsync].join() : '';
    let producer = this.producers.get(id);
    if (!producer) {
      producer = new CounterProducer(this.connection, this.scripts, this.options.counters, durability);
      this.producers.set(id, producer);
    }
    return producer;
  }

  private deadlineOf({ timeoutMs = this.options.timeoutMs }: CounterCallOptions): Deadline {
    return Deadline.in(timeoutMs);
  }
}

function valueOrNull(key: string, answer: string): bigint | null {
  assertCounter(key, answer);
  return answer === ABSENT ? null : BigInt(answer);
}
