import type { PipelinedCommand } from '../pipelines/pipelined-command.js';

/** In the detail of an addition. */
export const UNDOABLE = 'u';

/**
 * The fields of an operation in the script's arguments, beside its counter and its time limit; ''
 * for a field that it has not.
 */
export interface Change {
  readonly kind: 'add' | 'undo' | 'reset';
  readonly amount: number | bigint | '';
  readonly min: number | bigint | '';
  readonly max: number | bigint | '';
  readonly ttlMs: number | '';
  /** Flags of an addition or a reset; of an undo the life that was added to. */
  readonly detail: string;
}

/** An operation on one counter that waits for its answer. */
export interface CounterCommand extends PipelinedCommand {
  readonly change: Change;
}

/**
 * Tells whether two operations can travel as one: the result of each follows from their result
 * together.
 */
export const areEqual = (one: Change, other: Change): boolean =>
  one.kind === 'add' &&
  other.kind === 'add' &&
  one.amount === other.amount &&
  one.min === other.min &&
  one.max === other.max &&
  one.ttlMs === other.ttlMs &&
  one.detail === other.detail;
