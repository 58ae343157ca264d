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

export interface Swap<V> {
  readonly done: boolean;
  readonly current: V | null;
}

export const swapArguments = (expected: BinaryValue | null, next: BinaryValue | null) => ({
  hasExpected: expected === null ? '' : '1',
  expected: expected ?? '',
  hasNext: next === null ? '' : '1',
  next: next ?? '',
});

export function swapResult<E extends Encoding>(
  key: string,
  { answer, value }: ValueAnswer,
  type: 'string' | 'hash',
  swapped: Decoded<E> | null,
  options: EncodingOptions<E>,
): Swap<Decoded<E>> {
  if (answer === Answer.WrongType) throw new WrongTypeError(key, type);
  if (answer === Answer.Swapped) return { done: true, current: swapped };
  return { done: false, current: value ? decoded(value, options, { key, outcome: 'not-applied' }) : null };
}

export function found<E extends Encoding>(
  key: string,
  { answer, value }: ValueAnswer,
  options: EncodingOptions<E>,
): Decoded<E> | null {
  if (answer === Answer.WrongType) throw new WrongTypeError(key, 'string');
  return value ? decoded(value, options, { key, outcome: 'applied' }) : null;
}
