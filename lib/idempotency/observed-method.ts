import { errorName, type Operation } from '../observability/observer.js';
import type { BegunTransactions } from '../scripting/begun-transactions.js';
import { withParticipant, type Participant } from '../scripting/commit-participant.js';

/** Runs methods as part of a run, and keeps how the last one failed. */
export class ObservedMethod {
  private failed: { readonly error: unknown } | undefined;

  constructor(
    private readonly observed: Operation,
    private readonly participant: Participant & { readonly transactions?: BegunTransactions },
  ) {}

  async within<T>(method: () => Promise<T> | T): Promise<T> {
    this.failed = undefined;
    try {
      const value = await this.observed.within(() => withParticipant(this.participant, method));
      // A transaction that is to commit the run is part of the method, awaited or not.
      const { transactions } = this.participant;
      if (transactions?.isAnyLeft) await transactions.untilOver();
      return value;
    } catch (error) {
      this.failed = { error };
      throw error;
    }
  }

  get failure(): { error?: string } {
    return this.failed ? { error: errorName(this.failed.error) } : {};
  }
}
