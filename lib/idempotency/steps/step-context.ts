import type { RunStep } from './step.options.js';

/** One run of a step's work. */
export class StepContext implements RunStep {
  private stated: { readonly error: unknown } | undefined;
  private ownKey: string | undefined;

  /** @param keyName the name that its key is made of */
  constructor(
    private readonly run: { readonly signal: AbortSignal; keyFor(name: string): string },
    private readonly keyName: string,
  ) {}

  get key(): string {
    return (this.ownKey ??= this.run.keyFor(this.keyName));
  }

  get signal(): AbortSignal {
    return this.run.signal;
  }

  // Callers may take it off the context.
  get didNothing() {
    return <E>(error: E): E => {
      this.stated = { error };
      return error;
    };
  }

  /** True if the work has stated of this very error that nothing was done. */
  saysNothingWasDone(error: unknown): boolean {
    return this.stated !== undefined && this.stated.error === error;
  }
}
