import { WrongTypeError } from '../atomic-redis.errors.js';
import {
  decoded,
  type BinaryValue,
  type Decoded,
  type Encoding,
  type EncodingOptions,
} from '../redis/encoding.js';
import { Answer, type ValueAnswer } from './value-answer.js';

/** `V` is a string, or with `encoding: 'buffer'` a Buffer. */
export interface CompareAndSetResult<V extends BinaryValue = string> {
  /** Whether the value was the expected one and has been replaced. */
  readonly swapped: boolean;
  /** What is there after the call; null when nothing is. */
  readonly current: V | null;
}

/** `V` is a string, or with `encoding: 'buffer'` a Buffer. */
export interface CompareAndDeleteResult<V extends BinaryValue = string> {
  /** Whether the value was the expected one and has been deleted. */
  readonly deleted: boolean;
  /** What is there after the call; null when nothing is. */
  readonly current: V | null;
}

/** Makes a call's result of whether it changed anything and what is there now. */
export type SwapResult<V, Result> = (done: boolean, current: V | null) => Result;

export const swapArguments = (expected: BinaryValue | null, next: BinaryValue | null) => ({
  hasExpected: expected === null ? '' : '1',
  expected: expected ?? '',
  hasNext: next === null ? '' : '1',
  next: next ?? '',
});

export function swapResult<E extends Encoding, Result>(
  key: string,
  { answer, value }: ValueAnswer,
  type: 'string' | 'hash',
  after: Decoded<E> | null,
  options: EncodingOptions<E>,
  toResult: SwapResult<Decoded<E>, Result>,
): Result {
  if (answer === Answer.WrongType) throw new WrongTypeError(key, type);
  if (answer === Answer.Swapped) return toResult(true, after);
  return toResult(false, value ? decoded(value, options, { key, outcome: 'not-applied' }) : null);
}

export function found<E extends Encoding>(
  key: string,
  { answer, value }: ValueAnswer,
  options: EncodingOptions<E>,
): Decoded<E> | null {
  if (answer === Answer.WrongType) throw new WrongTypeError(key, 'string');
  return value ? decoded(value, options, { key, outcome: 'applied' }) : null;
}
