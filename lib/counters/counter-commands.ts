import { describe, UnsafeIntegerError } from '../atomic-redis.errors.js';
import type { ResolvedOptions } from '../atomic-redis.options.js';
import * as check from '../atomic-redis.validation.js';
import type { Observer } from '../observability/observer.js';
import { Deadline } from '../runtime/deadline.js';
import {
  checkOperationOptions,
  checkQueryOptions,
  copyOperationOptions,
  type OperationOptions,
  type QueryOptions,
} from '../operations/operation.options.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { assertOutsideTransaction, isInTransaction } from '../runtime/transaction-scope.js';
import type { ScriptRunner } from '../scripting/script-runner.js';
import type { WorkInFlight } from '../runtime/work-in-flight.js';
import { addFlags, checkAddOptions, type CounterAddOptions } from './counter-arguments.js';
import type { Caller } from '../pipelines/pipelined-command.js';
import { Producer } from '../pipelines/producer.js';
import { Producers } from '../pipelines/producers.js';
import { CounterBatches, type CounterBatch } from './counter-batch.js';
import type { Change, CounterCommand } from './counter-command.js';
import { assertCounter, companionsOf } from './counter-keys.js';
import { hasApplied, once, resultInRun, type CounterResult } from './counter-result.js';
import { CounterOverflowError } from './counter.errors.js';
import { ABSENT, Refusal } from './lua-counter.js';
import { MORE_TO_READ, readScript } from './read.script.js';

const NO_OPTIONS: OperationOptions = {};

/**
 * Operations on one counter: checks their arguments, sends them, and turns answers into results or
 * errors.
 */
export class CounterCommands {
  private readonly producers: Producers<CounterCommand, CounterBatch>;

  constructor(
    private readonly connection: RedisConnection,
    private readonly scripts: ScriptRunner,
    private readonly inFlight: WorkInFlight,
    private readonly observer: Observer,
    private readonly options: ResolvedOptions,
  ) {
    const batches = new CounterBatches(options.counters);
    this.producers = new Producers(
      (deduplicate) =>
        new Producer(connection, scripts, inFlight, batches, { deduplicate, durability: undefined }),
      options.services.counters,
    );
  }

  /**
   * @param detail `u` for one that can be undone: in the life, and with a copy of the options, that
   * `toResult` is given
   * @throws InvalidArgumentError, IllegalTransactionStateError
   */
  add<Result extends CounterResult>(
    key: string,
    amount: number | bigint,
    options: CounterAddOptions,
    detail: '' | 'u',
    toResult: (added: CounterResult, life: string, operation: OperationOptions) => Result,
  ): Promise<Result> {
    // An error thrown in here rejects the promise, and an addition makes no other one.
    return new Promise((resolve, reject) => {
      check.key('key', key);
      check.int64('amount', amount);
      checkAddOptions('options', options);
      const { min = '', max = '', ttlMs = '' } = options;
      const operation = detail === 'u' ? copyOperationOptions(options) : NO_OPTIONS;
      // Not -0.
      const by = amount === 0 ? 0 : amount;
      const flags = detail + addFlags(amount, options);
      const change: Change = { kind: 'add', amount: by, min, max, ttlMs, detail: flags };
      const toAdded = (answer: string, place: number): Result => {
        assertCounter(key, answer);
        const added = resultInRun(answer, by, place);
        if ('result' in added) return toResult(added.result, added.life, operation);
        throw added.refusal === Refusal.Overflow
          ? new CounterOverflowError(key, amount)
          : new UnsafeIntegerError(key, 'a bigint amount');
      };
      this.perform<Result>(key, change, options, {
        toResult: toAdded,
        isChange: hasApplied,
        resolve,
        reject,
      });
    });
  }

  /** The undo of what was applied to a counter in that life; it takes effect once. */
  undoOf(
    key: string,
    applied: number | bigint,
    life: string,
    options: OperationOptions,
  ): () => Promise<boolean> {
    const toUndone = (answer: string): boolean => {
      assertCounter(key, answer);
      if (answer === Refusal.Overflow) throw new CounterOverflowError(key, -applied);
      return answer !== Refusal.Gone;
    };
    const change: Change = { kind: 'undo', amount: applied, min: '', max: '', ttlMs: '', detail: life };
    const undo = (): Promise<boolean> =>
      new Promise((resolve, reject) =>
        this.perform(key, change, options, { toResult: toUndone, isChange: Boolean, resolve, reject }),
      );
    return once(async () => {
      if (BigInt(applied) === 0n) return true;
      return await this.observer.operation('counters.undo', undo, { changed: Boolean });
    });
  }

  /** @param detail `n` for a value that must be exact as a number */
  async reset(key: string, options: OperationOptions, detail: 'n' | ''): Promise<bigint | null> {
    check.key('key', key);
    checkOperationOptions('options', options);
    const toPrevious = (answer: string): bigint | null => {
      if (answer === Refusal.Inexact) throw new UnsafeIntegerError(key, 'resetBigInt');
      return valueOrNull(key, answer);
    };
    const change: Change = { kind: 'reset', amount: '', min: '', max: '', ttlMs: '', detail };
    return await new Promise((resolve, reject) =>
      this.perform(key, change, options, { toResult: toPrevious, isChange: () => true, resolve, reject }),
    );
  }

  async read(key: string, options: QueryOptions): Promise<bigint | null> {
    check.key('key', key);
    checkQueryOptions('options', options);
    const { counter, holds } = companionsOf(this.connection.keys, key);
    const deadline = this.deadlineOf(options);
    const answer = await this.inFlight.track(async () => {
      let cursor = '';
      for (;;) {
        const read = await this.scripts.run(readScript, { counter, holds }, { cursor }, deadline);
        if (!read.startsWith(MORE_TO_READ)) return read;
        cursor = read.slice(MORE_TO_READ.length);
      }
    });
    return valueOrNull(key, answer);
  }

  private perform<Result>(
    key: string,
    change: Change,
    options: OperationOptions,
    caller: Caller<Result>,
  ): void {
    if (isInTransaction()) assertOutsideTransaction(`Changing counter ${describe(key)}`, options.propagation);
    this.producers.for(options).perform({
      key,
      change,
      deadline: this.deadlineOf(options),
      caller,
      state: 'queued',
      isAlone: false,
    });
  }

  private deadlineOf({ timeoutMs = this.options.services.counters.timeoutMs }: QueryOptions): Deadline {
    return Deadline.in(timeoutMs);
  }
}

function valueOrNull(key: string, answer: string): bigint | null {
  assertCounter(key, answer);
  return answer === ABSENT ? null : BigInt(answer);
}
