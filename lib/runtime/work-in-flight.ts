import { Deadline } from './deadline.js';

/** Counts the operations under way, so that shutdown can wait for them. */
export class WorkInFlight {
  private count = 0;
  private readonly idleListeners = new Set<() => void>();

  get inFlight(): number {
    return this.count;
  }

  async track<T>(work: () => Promise<T>): Promise<T> {
    this.enter();
    try {
      return await work();
    } finally {
      this.leave();
    }
  }

  /** Counts an operation. Its caller calls {@link leave} once it has settled. */
  enter(): void {
    this.count++;
  }

  /** Ends the count of an operation. */
  leave(): void {
    if (--this.count === 0) for (const wake of this.idleListeners) wake();
  }

  /** Resolves with true once nothing is under way, or with false after `timeoutMs`. */
  async drain(timeoutMs: number): Promise<boolean> {
    if (this.count === 0) return true;
    let wake = (): void => undefined;
    const idle = new Promise<boolean>((resolve) => {
      wake = () => resolve(true);
      this.idleListeners.add(wake);
    });
    try {
      return await Deadline.in(timeoutMs).race(idle, () => new Error());
    } catch {
      return false;
    } finally {
      this.idleListeners.delete(wake);
    }
  }
}
