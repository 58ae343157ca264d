/** Numbers where the amount was a number, bigints where it was a bigint. */
export interface CounterResult<N extends number | bigint = number | bigint> {
  /** The counter's value after the add. */
  readonly value: N;
  /** What was added: the amount, or less at a bound. */
  readonly applied: N;
  /** Whether a bound kept the whole amount from being added. */
  readonly limited: boolean;
}

export interface UndoableCount<N extends number | bigint = number | bigint> extends CounterResult<N> {
  /**
   * Takes back exactly what was applied, whatever `min` and `max`. Repeating it changes nothing.
   * Resolves with false when the counter has expired, was deleted or reset meanwhile, or the module's `undoWindowMs` is over.
   *
   * @throws as `add` does
   */
  readonly undo: () => Promise<boolean>;
}
