import { InvalidArgumentError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { operationOptionChecks, type OperationOptions } from '../operations/operation.options.js';

/**
 * Options of an add. The answers that `deduplicate` keeps are in a few keys for each service, on a
 * Cluster one for each hash slot, however many counters and calls there are.
 */
export interface CounterAddOptions extends OperationOptions {
  /**
   * Lowest value that adding a negative amount may lead to. Default: that of 64 bits, where
   * crossing it is an error.
   */
  min?: number | bigint;
  /** Highest value that adding a positive amount may lead to. Default: as for `min`. */
  max?: number | bigint;
  /**
   * At a bound: `skip` adds nothing, `clamp` adds what fits. The call resolves with `limited`.
   * @default 'skip'
   */
  onLimit?: 'skip' | 'clamp';
  /**
   * Time to live of the counter, in milliseconds. Default: a new counter has none, an existing one
   * keeps its own.
   */
  ttlMs?: number;
  /**
   * When `ttlMs` is set: `onCreate`, when this add creates the counter; `sliding`, at every add
   * that changes it.
   * @default 'onCreate'
   */
  ttl?: 'onCreate' | 'sliding';
}

/** Bounds of a counter, and the time that it lasts. */
type Bounds = Pick<CounterAddOptions, 'min' | 'max' | 'onLimit' | 'ttlMs' | 'ttl'>;

/** One counter's part of `addAll`. */
export interface CounterAddition<N extends number | bigint = number | bigint> extends Bounds {
  key: string;
  /** The amount to add, negative to count down. */
  amount: N;
}

/** @inline */
export interface CounterRunOptions extends CounterAddOptions {
  /** Fate of the count when the work throws: `undo` takes back what was applied. @default 'undo' */
  onError?: 'undo' | 'keep';
}

/** The most counters that one `addAll` takes. */
const MAX_ADDITIONS = 512;

const boundChecks = {
  min: check.int64,
  max: check.int64,
  onLimit: check.oneOf('skip', 'clamp'),
  ttlMs: check.milliseconds(),
  ttl: check.oneOf('onCreate', 'sliding'),
} satisfies Record<keyof Bounds, check.Check>;

const addOptionChecks = { ...operationOptionChecks, ...boundChecks } satisfies Record<
  keyof CounterAddOptions,
  check.Check
>;

const checkAddition = check.options(
  { key: check.key, amount: check.int64, ...boundChecks } satisfies Record<
    keyof CounterAddition,
    check.Check
  >,
  'key',
  'amount',
);

export const runOptionChecks = {
  ...addOptionChecks,
  onError: check.oneOf('undo', 'keep'),
} satisfies Record<keyof CounterRunOptions, check.Check>;

const checkAddProperties = check.options(addOptionChecks);
const checkRunProperties = check.options(runOptionChecks);

export const checkAddOptions = (path: string, options: CounterAddOptions): void => {
  checkAddProperties(path, options);
  checkTogether(path, options);
};

export const checkRunOptions = (path: string, options: CounterRunOptions): void => {
  checkRunProperties(path, options);
  checkTogether(path, options);
};

/**
 * A copy of the additions, each counter once, which stay as they were checked while the call is
 * under way.
 * @throws InvalidArgumentError
 */
export function checkedAdditions(adds: readonly CounterAddition[]): CounterAddition[] {
  if (!Array.isArray(adds) || adds.length === 0 || adds.length > MAX_ADDITIONS) {
    throw new InvalidArgumentError('adds', `an array of 1 to ${MAX_ADDITIONS} additions`, adds);
  }
  const seen = new Set<string>();
  return Array.from(adds as readonly CounterAddition[], (add, i) => {
    const path = `adds[${i}]`;
    checkAddition(path, add);
    checkTogether(path, add);
    const { key, amount, min, max, onLimit, ttlMs, ttl } = add;
    if (seen.has(key)) throw new InvalidArgumentError(`${path}.key`, 'a counter that is there once', key);
    seen.add(key);
    return { key, amount, min, max, onLimit, ttlMs, ttl };
  });
}

/** Checks what the checks of single options cannot see. */
export function checkTogether(path: string, { min, max, ttl, ttlMs }: Bounds): void {
  if (min !== undefined && max !== undefined && min > max) {
    throw new InvalidArgumentError(`${path}.min`, `at most ${path}.max, which is ${max}`, min);
  }
  if (ttl === 'sliding' && ttlMs === undefined) {
    throw new InvalidArgumentError(`${path}.ttlMs`, `given when ${path}.ttl is "sliding"`, ttlMs);
  }
}

/** The flags of an add for the scripts, in letters. */
export const addFlags = (amount: number | bigint, { onLimit, ttl }: Bounds): string =>
  `${onLimit === 'clamp' ? 'c' : ''}${ttl === 'sliding' ? 's' : ''}${typeof amount === 'number' ? 'n' : ''}`;
