import { errorName, type ObservedCall } from '../observability/observer.js';
import { withParticipant, type Unprotected } from '../scripting/commit-participant.js';
import type { LeasedCommit } from './leased-commit.js';

type Waiter = (LeasedCommit | Unprotected) & { isAwaited: boolean };

/**
 * Runs a body as a part of a participant, and the transactions that it has begun and not awaited.
 * None may begin after that: its effects would not be the participant's.
 */
export async function withAwaited<T>(participant: Waiter, body: () => Promise<T> | T): Promise<T> {
  participant.isAwaited = true;
  try {
    const value = await withParticipant(participant, body);
    if (participant.isAnyLeft) await participant.untilOver();
    return value;
  } catch (error) {
    // The body's own error is the one that counts.
    if (participant.isAnyLeft) await participant.untilOver().catch(() => undefined);
    throw error;
  } finally {
    participant.isAwaited = false;
  }
}

/** Runs methods as part of a run, and keeps how the last one failed. */
export class ObservedMethod {
  private failed: { readonly error: unknown } | undefined;

  constructor(
    private readonly observed: ObservedCall,
    private readonly participant: Waiter,
  ) {}

  async within<T>(method: () => Promise<T> | T): Promise<T> {
    this.failed = undefined;
    try {
      return await withAwaited(this.participant, () => this.observed.within(method));
    } catch (error) {
      this.failed = { error };
      throw error;
    }
  }

  get failure(): { error?: string } {
    return this.failed ? { error: errorName(this.failed.error) } : {};
  }
}
