import type { NotReplicatedError } from '../atomic-redis.errors.js';
import type { Deadline } from '../runtime/deadline.js';

/** In the detail of an addition. */
export const UNDOABLE = 'u';

/** What the script is told of an operation, beside its counter and its time limit; '' for what it has not. */
export interface Change {
  readonly kind: 'add' | 'undo' | 'reset';
  readonly amount: number | bigint | '';
  readonly min: number | bigint | '';
  readonly max: number | bigint | '';
  readonly ttlMs: number | '';
  /** Flags of an addition or a reset; of an undo the life that was added to. */
  readonly detail: string;
}

/** Who waits for an operation. */
export interface Caller<Result = unknown> {
  /** What he makes of the script's answer. Throws a refusal. @param place of the operation among equal ones that were answered together, from 0 */
  toResult(answer: string, place: number): Result;
  /** Whether a result that replicas did not have in time is of a change at all. */
  isChange(result: Result): boolean;
  resolve(result: Result): void;
  reject(error: unknown): void;
}

/** An operation on one counter that waits for its answer. */
export interface CounterCommand {
  readonly key: string;
  readonly change: Change;
  readonly deadline: Deadline;
  readonly caller: Caller;
  state: 'queued' | 'sent' | 'settled';
  /** Whether to send it with no other counter: a batch that it was in was refused for the sake of one of its keys. */
  isAlone: boolean;
}

/** Whether the two can travel as one: what each comes to can be told from what they come to together. */
export const areEqual = (one: Change, other: Change): boolean =>
  one.kind === 'add' &&
  other.kind === 'add' &&
  one.amount === other.amount &&
  one.min === other.min &&
  one.max === other.max &&
  one.ttlMs === other.ttlMs &&
  one.detail === other.detail;

/** Tells the caller of an operation what the script answered. */
export function settle(
  operation: CounterCommand,
  answer: string,
  place: number,
  unreplicated: NotReplicatedError | undefined,
): void {
  const { caller } = operation;
  operation.state = 'settled';
  try {
    const result = caller.toResult(answer, place);
    if (unreplicated && caller.isChange(result)) caller.reject(unreplicated.withResult(result));
    else caller.resolve(result);
  } catch (error) {
    caller.reject(error);
  }
}

export function fail(operations: readonly CounterCommand[], error: unknown): void {
  for (const operation of operations) {
    operation.state = 'settled';
    operation.caller.reject(error);
  }
}
