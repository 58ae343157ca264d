import { Logger } from '@nestjs/common';
import { AtomicRedisError, describe, NotReplicatedError } from '../atomic-redis.errors.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { CounterAddOptions, CounterRunOptions } from './counter-arguments.js';
import type { CounterResult, Undoable } from './counter-result.js';
import { CounterLimitError } from './counter.errors.js';

const logger = new Logger('CounterService');

/** The calls of `CounterService` that count for the work. */
interface Counters {
  add(key: string, amount: number | bigint, options: CounterAddOptions): Promise<CounterResult>;
  addUndoable(
    key: string,
    amount: number | bigint,
    options: CounterAddOptions,
  ): Promise<Undoable<CounterResult>>;
}

/** A count for a piece of work. */
interface Counted {
  readonly key: string;
  readonly amount: number | bigint;
  readonly options: CounterRunOptions;
}

/** Counts, runs the work, and takes the count back when the work fails: see `CounterService.run`. */
export async function runCounted<T>(
  counters: Counters,
  connection: RedisConnection,
  { key, amount, options }: Counted,
  work: (count: never) => T,
): Promise<Awaited<T>> {
  const { onError = 'undo', ...addOptions } = options;
  const undoable =
    onError === 'undo'
      ? await takenBackUnlessReplicated(counters.addUndoable(key, amount, addOptions), connection)
      : undefined;
  const count = undoable ?? (await counters.add(key, amount, addOptions));
  if (count.limited && addOptions.onLimit !== 'clamp') {
    const { min = 0, max = 0 } = addOptions;
    throw new CounterLimitError(key, count.value, amount, amount < 0 ? min : max);
  }
  try {
    return await work(count as never);
  } catch (error) {
    if (undoable) await undoAfter(error, key, undoable);
    throw error;
  }
}

async function takenBackUnlessReplicated(
  added: Promise<Undoable<CounterResult>>,
  connection: RedisConnection,
): Promise<Undoable<CounterResult>> {
  try {
    return await added;
  } catch (error) {
    if (!(error instanceof NotReplicatedError)) throw error;
    const { undo } = error.result as Undoable<CounterResult>;
    // Replicas that do not have the count need not have its undo.
    const isUndone = await undo().catch((failure: unknown) => failure instanceof NotReplicatedError);
    throw isUndone ? connection.unavailable(error) : error;
  }
}

async function undoAfter(error: unknown, key: string, count: Undoable<CounterResult>): Promise<void> {
  if (error instanceof AtomicRedisError && error.outcome !== 'not-applied') {
    const why = error.outcome === 'unknown' ? 'its effect is unknown' : 'it took effect';
    logger.warn(
      `Counter ${describe(key)} keeps ${count.applied}: the method failed, but ${why} (${error.code})`,
    );
    return;
  }
  try {
    await count.undo();
  } catch (failure) {
    logger.error(
      `Counter ${describe(key)} keeps ${count.applied}, since the undo failed`,
      (failure as Error).stack,
    );
  }
}
