import { describe, WrongTypeError } from '../atomic-redis.errors.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { OperationOptions, ResolvedDefaults } from '../operations/operation.options.js';
import { Producer } from '../pipelines/producer.js';
import { Producers } from '../pipelines/producers.js';
import { Deadline } from '../runtime/deadline.js';
import { assertOutsideTransaction, isInTransaction } from '../runtime/transaction-scope.js';
import type { WorkInFlight } from '../runtime/work-in-flight.js';
import type { ScriptRunner } from '../scripting/script-runner.js';
import type { LimitBatch, LimitBatches, LimitCommand } from './limit-batch.js';
import { stateOf } from './limit-keys.js';
import { foundIn, resultAfter, resultOf, type Found, type LimitResult } from './limit-result.js';
import type { CheckedLimit } from './limit.js';
import { WRONG_TYPE } from './lua-limit.js';

/** The answer to a run: how many of its calls were let through, and each limit as it was before. */
interface RunAnswer {
  readonly letThrough: number;
  readonly before: readonly Found[];
}

/** Sends calls of `take`, and makes their results of the answers. */
export class LimitCommands {
  private readonly producers: Producers<LimitCommand, LimitBatch>;
  /** The answer to the run whose calls are being answered. */
  private answer: RunAnswer = { letThrough: 0, before: [] };

  constructor(
    private readonly connection: RedisConnection,
    scripts: ScriptRunner,
    inFlight: WorkInFlight,
    private readonly defaults: ResolvedDefaults,
    batches: LimitBatches,
  ) {
    this.producers = new Producers(
      (deduplicate) =>
        new Producer(connection, scripts, inFlight, batches, { deduplicate, durability: undefined }),
      defaults,
    );
  }

  /** @throws CrossSlotError, IllegalTransactionStateError */
  take<Result extends { readonly allowed: boolean }>(
    limits: readonly CheckedLimit[],
    options: OperationOptions,
    toResult: (results: readonly LimitResult[]) => Result,
    resolve: (result: never) => void,
    reject: (error: unknown) => void,
  ): void {
    if (isInTransaction())
      assertOutsideTransaction(`Taking from limit ${describe(limits[0]!.key)}`, options.propagation);
    const keySpace = this.connection.keys;
    const states: string[] = [];
    let text = '';
    for (const limit of limits) {
      states.push(stateOf(keySpace, limit));
      text += limit.specification;
    }
    if (limits.length > 1 && this.connection.isCluster) keySpace.commonSlotOf(limits.map(({ key }) => key));
    const command: LimitCommand = {
      key: limits.length === 1 ? states[0]! : keyOf(states),
      limits,
      states,
      text,
      sweeps: false,
      deadline: Deadline.in(options.timeoutMs ?? this.defaults.timeoutMs),
      caller: {
        toResult: (answer, place) => toResult(this.resultsOf(limits, answer, place)),
        isChange: (result) => (result as Result).allowed,
        resolve,
        reject,
      },
      state: 'queued',
      isAlone: false,
    };
    this.producers.for(options).perform(command, limits[0]!.key);
  }

  private resultsOf(limits: readonly CheckedLimit[], answer: string, place: number): LimitResult[] {
    if (answer.startsWith(WRONG_TYPE)) throw wrongType(limits, answer);
    // Calls of one run are equal, and answered one after the other.
    if (place === 0) {
      const parts = answer.split('|');
      const before = limits.map((limit, i) => foundIn(limit, parts[i + 1]!));
      this.answer = { letThrough: Number(parts[0]), before };
    }
    const { letThrough, before } = this.answer;
    return place < letThrough
      ? limits.map((limit, i) => resultOf(limit, before[i]!, place + 1))
      : limits.map((limit, i) => resultAfter(limit, before[i]!, letThrough));
  }
}

/** Each with its length, since users' keys may hold any separator. */
const keyOf = (states: readonly string[]): string =>
  states.map((state) => `${state.length}:${state}`).join('');

export const wrongType = (limits: readonly CheckedLimit[], answer: string): WrongTypeError =>
  new WrongTypeError(limits[Number(answer.split(',')[1])]!.key, 'limit');
