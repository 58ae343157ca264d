import { errorName, type Operation } from '../observability/observer.js';
import { withParticipant, type Unprotected } from '../scripting/commit-participant.js';
import type { LeasedCommit } from './leased-commit.js';

/** Runs methods as part of a run, and keeps how the last one failed. */
export class ObservedMethod {
  private failed: { readonly error: unknown } | undefined;

  constructor(
    private readonly observed: Operation,
    private readonly participant: (LeasedCommit | Unprotected) & { isAwaited: boolean },
  ) {}

  async within<T>(method: () => Promise<T> | T): Promise<T> {
    const { participant } = this;
    this.failed = undefined;
    participant.isAwaited = true;
    try {
      const value = await this.observed.within(() => withParticipant(participant, method));
      // A transaction that is to commit the run is part of the method, awaited or not.
      if (participant.isAnyLeft) await participant.untilOver();
      return value;
    } catch (error) {
      // The method's own error is the one that counts.
      if (participant.isAnyLeft) await participant.untilOver().catch(() => undefined);
      this.failed = { error };
      throw error;
    } finally {
      participant.isAwaited = false;
    }
  }

  get failure(): { error?: string } {
    return this.failed ? { error: errorName(this.failed.error) } : {};
  }
}
