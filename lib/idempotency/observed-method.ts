import { errorName, type Operation } from '../observability/observer.js';
import { withParticipant, type Participant } from '../scripting/commit-participant.js';

/** Runs methods as part of a run, and keeps how the last one failed. */
export class ObservedMethod {
  private failed: { readonly error: unknown } | undefined;

  constructor(
    private readonly observed: Operation,
    private readonly participant: Participant,
  ) {}

  async within<T>(method: () => Promise<T> | T): Promise<T> {
    this.failed = undefined;
    try {
      return await this.observed.within(() => withParticipant(this.participant, method));
    } catch (error) {
      this.failed = { error };
      throw error;
    }
  }

  get failure(): { error?: string } {
    return this.failed ? { error: errorName(this.failed.error) } : {};
  }
}
