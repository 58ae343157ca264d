import { AtomicRedisError } from '../atomic-redis.errors.js';
import { LIMITED } from './lua-counter.js';

/** Numbers where the amount was a number, bigints where it was a bigint. */
export interface CounterResult<N extends number | bigint = number | bigint> {
  /** The counter's value after the add. */
  readonly value: N;
  /** The amount that was added, or less at a bound. */
  readonly applied: N;
  /** True if a bound kept the whole amount from being added. */
  readonly limited: boolean;
}

/** The result of an `addAll`. */
export interface CountersResult<N extends number | bigint = number | bigint> {
  /** True if all was added; if false, nothing was. */
  readonly applied: boolean;
  /**
   * For each counter, in the order given. When nothing was applied, `limited` tells which are at a
   * bound, and `value` what is there.
   */
  readonly counters: readonly (CounterResult<N> & { readonly key: string })[];
}

/** A result whose count can be taken back. */
export type Undoable<Result extends CounterResult | CountersResult> = Result & {
  /**
   * Takes back exactly what was applied, whatever `min` and `max`. Repeating it changes nothing, or
   * takes back what is not known to be taken back. Resolves with false when a counter has expired,
   * was deleted or reset meanwhile, or the module's `undoWindowMs` is over; others of an `addAll`
   * are undone all the same.
   *
   * @throws as `add` does
   */
  readonly undo: () => Promise<boolean>;
};

export const hasApplied = ({ applied }: CounterResult): boolean => BigInt(applied) !== 0n;

/** A result as scripts spell it: `<value>:<applied>:<1 if limited>:<life to undo it in>`. */
export function parseResult(
  answer: string,
  amount: number | bigint,
): { readonly result: CounterResult; readonly life: string } {
  const [value = '', applied = '', limited, life = ''] = answer.split(':');
  const convert = typeof amount === 'bigint' ? BigInt : Number;
  return { result: { value: convert(value), applied: convert(applied), limited: limited === '1' }, life };
}

/**
 * Returns, for equal additions that were answered together, what the one in `place` came
 * to. The answer is `<value before>` when all were added in full, else `<value before>:<how many
 * were>:<value after>:<what became of the others>:<life to undo in>`.
 */
export function resultInRun(
  answer: string,
  amount: number | bigint,
  place: number,
): { readonly result: CounterResult; readonly life: string } | { readonly refusal: string } {
  if (!answer.includes(':')) return { result: added(answer, amount, place), life: '' };
  const [before = '', full, after = '', rest = '', life = ''] = answer.split(':');
  const fullyAdded = Number(full);
  if (place < fullyAdded) return { result: added(before, amount, place), life };
  if (rest !== LIMITED) return { refusal: rest };
  // Only the first of them may have added what fitted.
  const partly = place === fullyAdded ? BigInt(after) - BigInt(before) - BigInt(amount) * BigInt(place) : 0n;
  const convert = typeof amount === 'bigint' ? BigInt : Number;
  return {
    result: { value: convert(after), applied: convert(partly), limited: true },
    life: partly === 0n ? '' : life,
  };
}

function added(before: string, amount: number | bigint, place: number): CounterResult {
  const times = place + 1;
  if (typeof amount === 'bigint')
    return { value: BigInt(before) + amount * BigInt(times), applied: amount, limited: false };
  const [start, total] = [Number(before), amount * times];
  const isExact = Number.isSafeInteger(start) && Number.isSafeInteger(total);
  const value = isExact ? start + total : Number(BigInt(before) + BigInt(amount) * BigInt(times));
  return { value, applied: amount, limited: false };
}

/**
 * Does `work` the first time it is called, and again only when it is known to have done nothing.
 */
export function once<T>(work: () => Promise<T>): () => Promise<T> {
  let done: Promise<T> | undefined;
  return () => {
    done ??= work().catch((error: unknown) => {
      if (error instanceof AtomicRedisError && error.outcome === 'not-applied') done = undefined;
      throw error;
    });
    return done;
  };
}
