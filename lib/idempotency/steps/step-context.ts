import type { RunStep } from './step.options.js';

/** One run of a step's work. */
export class StepContext implements RunStep {
  private stated: { readonly error: unknown } | undefined;

  constructor(
    readonly key: string,
    readonly signal: AbortSignal,
  ) {}

  // Callers may take it off the context.
  readonly didNothing = <E>(error: E): E => {
    this.stated = { error };
    return error;
  };

  /** True if the work has stated of this very error that nothing was done. */
  saysNothingWasDone(error: unknown): boolean {
    return this.stated !== undefined && this.stated.error === error;
  }
}
