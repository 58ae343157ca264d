import { describe, InexactResultError } from '../atomic-redis.errors.js';
import type { ResolvedOptions } from '../atomic-redis.options.js';
import {
  copyOperationOptions,
  type OperationOptions,
  type OperationRunner,
} from '../redis/operation-runner.js';
import { resultOf } from '../redis/durability.js';
import { randomId } from '../redis/random-id.js';
import type { RedisConnection } from '../redis/redis-connection.js';
import { addAllScript } from './add-all.script.js';
import {
  addFlags,
  checkedAdditions,
  checkWriteOptions,
  type CounterAddition,
  type CounterWriteOptions,
} from './counter-arguments.js';
import { assertCounter, companionsOf } from './counter-producer.js';
import { parseResult, type CountersResult } from './counter-result.js';
import { CounterOverflowError } from './counter.errors.js';
import { Refusal } from './lua-counter.js';
import { untilSwept } from './until-swept.js';

export interface AddedToAll extends CountersResult {
  /** In which each counter's part can be undone. */
  readonly lives: readonly string[];
  /** What the call was given, for undoing it. */
  readonly operation: OperationOptions;
}

/**
 * Adds to several counters by one script. It has a marker of its own by which a copy is known, apart from the sequences of the counters' batches, so it
 * need not wait for its turn with any of them.
 */
export class CounterAdder {
  constructor(
    private readonly connection: RedisConnection,
    private readonly operations: OperationRunner,
    private readonly options: ResolvedOptions,
  ) {}

  async addAll(
    given: readonly CounterAddition[],
    options: CounterWriteOptions,
    detail: '' | 'u',
  ): Promise<AddedToAll> {
    const adds = checkedAdditions(given);
    checkWriteOptions('options', options);
    const operation = copyOperationOptions(options);
    const { keys, isCluster } = this.connection;
    const names = adds.map(({ key }) => key);
    if (isCluster) keys.commonSlotOf(names);
    const counters = names.flatMap((name) => {
      const { counter, life, holds } = companionsOf(keys, name);
      return [counter, life, holds];
    });
    const fields = adds.flatMap(({ amount, min = '', max = '', ttlMs = '', ...rest }) =>
      [amount, min, max, ttlMs, detail + addFlags(amount, rest)].map(String),
    );
    const answered = untilSwept(options.timeoutMs ?? this.options.timeoutMs, (timeoutMs) =>
      this.operations.run(
        `Changing ${adds.length} counters, ${describe(names[0])} first,`,
        addAllScript,
        names[0]!,
        { counters },
        {
          lifeId: randomId('hex'),
          lifeTtlMs: this.options.counters.undoWindowMs,
          adds: fields,
        },
        { ...operation, timeoutMs },
      ),
    );
    return await resultOf(
      answered,
      (answer) => ({ ...read(answer, adds), operation }),
      ({ applied }) => applied,
    );
  }
}

/** @throws what the script refused it for */
function read(answer: string, adds: readonly CounterAddition[]): Omit<AddedToAll, 'operation'> {
  const [what, ...answers] = answer.split(',');
  if (what !== 'applied' && what !== 'limited') throw refusal(what!, adds[Number(answers[0])]!);
  const parsed = adds.map(({ key, amount }, i) => ({ key, ...parseResult(answers[i]!, amount) }));
  return {
    applied: what === 'applied',
    counters: parsed.map(({ key, result }) => ({ key, ...result })),
    lives: parsed.map(({ life }) => life),
  };
}

function refusal(what: string, { key, amount }: CounterAddition): Error {
  assertCounter(key, what);
  if (what === Refusal.Overflow) return new CounterOverflowError(key, amount);
  return new InexactResultError(key, 'a bigint amount');
}
