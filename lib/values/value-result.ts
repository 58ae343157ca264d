import { WrongTypeError } from '../atomic-redis.errors.js';
import { decoded, type BinaryValue, type Encoding } from '../scripting/encoding.js';
import { Answer, type ValueAnswer } from './value-answer.js';

/** `V` is a string, or with `encoding: 'buffer'` a Buffer. */
export interface CompareAndSetResult<V extends string | Buffer = string> {
  /** True if the value was the expected one and was replaced. */
  readonly swapped: boolean;
  /** The value after the call; null if there is none. */
  readonly current: V | null;
}

export const swapArguments = (expected: BinaryValue | null, next: BinaryValue | null) => ({
  hasExpected: expected === null ? '' : '1',
  expected: expected ?? '',
  hasNext: next === null ? '' : '1',
  next: next ?? '',
});

interface SwapCall {
  readonly key: string;
  /** The value after the call if it took effect. */
  readonly after: BinaryValue | null;
  readonly encoding: Encoding | undefined;
}

/** Makes the result of a comparing call from the script's answer. */
export function swapped<Result>(
  { answer, value }: ValueAnswer,
  { key, after, encoding }: SwapCall,
  type: 'string' | 'hash',
  toResult: (done: boolean, current: BinaryValue | null) => Result,
): Result {
  if (answer === Answer.WrongType) throw new WrongTypeError(key, type);
  if (answer === Answer.Swapped) return toResult(true, after);
  return toResult(false, value ? decoded(value, { encoding }, { key, outcome: 'not-applied' }) : null);
}

/** Returns the value that the script found; null if there was none. */
export function found(
  { answer, value }: ValueAnswer,
  { key, encoding }: { readonly key: string; readonly encoding: Encoding | undefined },
): BinaryValue | null {
  if (answer === Answer.WrongType) throw new WrongTypeError(key, 'string');
  return value ? decoded(value, { encoding }, { key, outcome: 'applied' }) : null;
}
