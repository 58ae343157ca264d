import { IdempotentRun } from '../idempotency/idempotent-run.js';
import { StepInterruptedError } from '../idempotency/idempotency.errors.js';
import { settled } from '../idempotency/settled.js';
import { StepContext } from '../idempotency/steps/step-context.js';
import type { StepWork } from '../idempotency/steps/step.options.js';

type GivenStep = { readonly result: unknown } | 'interrupted';

/**
 * A run without Redis: its steps run as they are, but for those that the test has an earlier
 * attempt do.
 */
export class StubRun extends IdempotentRun {
  override readonly signal: AbortSignal = new AbortController().signal;
  /** The names of the steps whose work has run, in order. */
  ran: string[] = [];
  private readonly given = new Map<string, GivenStep>();

  override get attempt(): number {
    return this.resumed ? 2 : 1;
  }

  override get resumed(): boolean {
    return this.given.size > 0;
  }

  override keyFor(name: string): string {
    return `key-for-${name}`;
  }

  override async step<T>(name: string, work: StepWork<T>): Promise<T> {
    const given = this.given.get(name);
    if (given === 'interrupted') throw new StepInterruptedError(name, 'begun');
    if (given) return given.result as T;
    this.ran.push(name);
    return await settled(work(new StepContext(this, name)));
  }

  giveStep(name: string, given: GivenStep): void {
    this.given.set(name, given);
  }

  reset(): void {
    this.ran = [];
    this.given.clear();
  }
}
