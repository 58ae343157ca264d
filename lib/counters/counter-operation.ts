import type { NotReplicatedError } from '../atomic-redis.errors.js';
import type { Deadline } from '../redis/deadline.js';

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
export class CounterOperation {
  state: 'queued' | 'sent' | 'settled' = 'queued';
  /** Whether to send it with no other counter: a batch that it was in was refused for the sake of one of its keys. */
  alone = false;

  constructor(
    readonly key: string,
    readonly change: Change,
    readonly deadline: Deadline,
    private readonly caller: Caller,
  ) {}

  get isUndoable(): boolean {
    return this.change.kind === 'add' && this.change.detail.includes(UNDOABLE);
  }

  /** Whether the other one can travel with it as one: what each comes to can be told from what they come to together. */
  equals({ change }: CounterOperation): boolean {
    const own = this.change;
    return (
      own.kind === 'add' &&
      change.kind === 'add' &&
      own.amount === change.amount &&
      own.min === change.min &&
      own.max === change.max &&
      own.ttlMs === change.ttlMs &&
      own.detail === change.detail
    );
  }

  answer(answer: string, place: number, unreplicated: NotReplicatedError | undefined): void {
    this.state = 'settled';
    const { caller } = this;
    try {
      const result = caller.toResult(answer, place);
      if (unreplicated && caller.isChange(result)) caller.reject(unreplicated.withResult(result));
      else caller.resolve(result);
    } catch (error) {
      caller.reject(error);
    }
  }

  fail(error: unknown): void {
    this.state = 'settled';
    this.caller.reject(error);
  }
}
