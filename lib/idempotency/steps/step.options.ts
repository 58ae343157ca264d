import type { Observable } from 'rxjs';
import { InvalidArgumentError } from '../../atomic-redis.errors.js';
import * as check from '../../atomic-redis.validation.js';
import type { ResultCodec } from '../result-codec.js';

/** The part of its step that a probe may see. @inline */
export interface ProbedStep {
  /**
   * A key for a third party, as `run.keyFor(name)`: the same in every attempt. Give it to whatever
   * the step calls, since the step may be run again after a crash. Of a step with aliases it is
   * made of the first of them.
   */
  readonly key: string;
  /** Aborts when the run can no longer count on its key. Of a probe, also when its time is over. */
  readonly signal: AbortSignal;
}

/** The part of its step that the step's work may see. */
export interface RunStep extends ProbedStep {
  /**
   * States that the work has done nothing, and returns the error to fail with: `throw
   * step.didNothing(new HttpException('The card was declined', 402))`. A step with `onInterrupted`
   * of `hold`, or a probe, takes its beginning back when its work fails with this very error. No
   * other error does that, whatever its status or `outcome`: it tells of one call inside the work,
   * and not of the others.
   */
  didNothing<E>(error: E): E;
}

/**
 * The finding of a probe.
 *
 * - `run`: the work did nothing, and is run.
 * - `hold`: it cannot be known; the key is held for an operator.
 * - `{ result }`: it was done, with this result.
 */
export type ProbeFinding<T = unknown> = 'run' | 'hold' | { readonly result: T };

/** Finds out what an interrupted step has done, by asking the third party. */
export type StepProbe<T = unknown> = (step: ProbedStep) => Promise<ProbeFinding<T>> | ProbeFinding<T>;

/** The work of a step. @inline */
export type StepWork<T> = (step: RunStep) => Promise<T> | Observable<T> | T;

/** Options of `run.step`. */
export interface StepOptions<T = unknown> {
  /**
   * Fate of a step that an earlier attempt has begun and not ended. `run`: its work runs again, at
   * least once in all, with the same `step.key`. `hold`: no call runs it again; the key is held for
   * an operator. A probe finds out; see `ProbeFinding`. With `hold` and a probe the beginning is
   * kept too, by one round trip more. Only an error that went through `step.didNothing` takes it
   * back.
   * @default 'run'
   */
  onInterrupted?:
    'run' | 'hold' | { of(...parameters: Parameters<StepProbe<T>>): ReturnType<StepProbe<T>> }['of'];
  /**
   * Time for which the result counts, in milliseconds: a later attempt after that runs the step
   * again. For tokens and prices. Default: always.
   */
  ttlMs?: number;
  /** Turns the result into bytes and back. Default: the run's. */
  codec?: ResultCodec;
  /**
   * Former names of the step, the oldest first: a run that an earlier version of the application
   * began continues with them.
   * @default []
   */
  aliases?: readonly string[];
}

/** Steps have names as methods have: no more than this many characters. */
const MAX_NAME = 256;

export function checkStepName(path: string, value: unknown): void {
  check.text(path, value);
  check.integer(1, MAX_NAME)(`${path}.length`, (value as string).length);
}

function checkNames(path: string, value: unknown): void {
  if (!Array.isArray(value)) throw new InvalidArgumentError(path, 'an array of names', value);
  for (let i = 0; i < value.length; i++) checkStepName(`${path}[${i}]`, value[i]);
}

const checkOptions = check.options({
  onInterrupted: check.either('"run", "hold" or a function', check.oneOf('run', 'hold'), check.func),
  ttlMs: check.milliseconds(),
  codec: check.methods('encode', 'decode'),
  aliases: checkNames,
} satisfies Record<keyof StepOptions, check.Check>);

/** @throws InvalidArgumentError */
export function checkStep(name: unknown, work: unknown, options: unknown): void {
  checkStepName('name', name);
  check.func('work', work);
  checkOptions('options', options);
}
