import type { Deadline } from '../runtime/deadline.js';

/** Wakes all that wait for something to change. */
export class ChangeSignal {
  private readonly waiting = new Set<() => void>();

  changed(): void {
    for (const wake of this.waiting) wake();
  }

  /** Resolves at the next change, or at the deadline. */
  next(deadline: Deadline): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, deadline.remainingMs);
      this.waiting.add(done);
    });
  }
}
