import { InvalidArgumentError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { Propagation } from '../redis/retried-work.js';

export interface CounterCallOptions {
  /** Time for the call, in milliseconds. Default: the module's `timeoutMs`. */
  timeoutMs?: number;
}

/** Of calls that change a counter. */
export interface CounterWriteOptions extends CounterCallOptions {
  /** Inside a transaction, `outside` makes the change all the same, once for each attempt; without it the call is refused. */
  propagation?: `${Propagation.Outside}`;
}

export interface CounterAddOptions extends CounterWriteOptions {
  /** Lowest value that adding a negative amount may lead to. Default: that of 64 bits, where crossing it is an error. */
  min?: number | bigint;
  /** Highest value that adding a positive amount may lead to. Default: likewise. */
  max?: number | bigint;
  /** At a bound: `reject` adds nothing, `clamp` adds what fits. @default 'reject' */
  onLimit?: 'reject' | 'clamp';
  /** Time to live of the counter, in milliseconds. Default: a new counter has none, an existing one keeps its own. */
  ttlMs?: number;
  /**
   * When `ttlMs` is set: `onCreate`, when this add creates the counter; `sliding`, at every add that changes it.
   * @default 'onCreate'
   */
  ttl?: 'onCreate' | 'sliding';
}

export interface CounterRunOptions extends CounterAddOptions {
  /** What becomes of the count when the work throws: `undo` takes back what was applied. @default 'undo' */
  onError?: 'undo' | 'keep';
}

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

/** A safe integer, or a bigint of 64 bits. */
export const int64: check.Check = (path, value) => {
  const fits =
    typeof value === 'bigint' ? value >= INT64_MIN && value <= INT64_MAX : Number.isSafeInteger(value);
  if (!fits) throw new InvalidArgumentError(path, 'a safe integer, or a bigint of 64 bits', value);
};

const callOptionChecks = { timeoutMs: check.waitMs() } satisfies Record<
  keyof CounterCallOptions,
  check.Check
>;

const writeOptionChecks = {
  ...callOptionChecks,
  propagation: check.oneOf(Propagation.Outside),
} satisfies Record<keyof CounterWriteOptions, check.Check>;

const addOptionChecks = {
  ...writeOptionChecks,
  min: int64,
  max: int64,
  onLimit: check.oneOf('reject', 'clamp'),
  ttlMs: check.milliseconds(),
  ttl: check.oneOf('onCreate', 'sliding'),
} satisfies Record<keyof CounterAddOptions, check.Check>;

export const runOptionChecks = {
  ...addOptionChecks,
  onError: check.oneOf('undo', 'keep'),
} satisfies Record<keyof CounterRunOptions, check.Check>;

export const checkCallOptions: check.Check = check.options(callOptionChecks);

export const checkWriteOptions: check.Check = check.options(writeOptionChecks);

export const checkAddOptions = (path: string, options: CounterAddOptions): void => {
  check.options(addOptionChecks)(path, options);
  checkTogether(path, options);
};

export const checkRunOptions = (path: string, options: CounterRunOptions): void => {
  check.options(runOptionChecks)(path, options);
  checkTogether(path, options);
};

/** What the checks of single options cannot see. */
export function checkTogether(path: string, { min, max, ttl, ttlMs }: CounterAddOptions): void {
  if (min !== undefined && max !== undefined && min > max) {
    throw new InvalidArgumentError(`${path}.min`, `at most ${path}.max, which is ${max}`, min);
  }
  if (ttl === 'sliding' && ttlMs === undefined) {
    throw new InvalidArgumentError(`${path}.ttlMs`, `given when ${path}.ttl is "sliding"`, ttlMs);
  }
}
