import { unschedule, schedule, type ScheduledCall } from '../runtime/timer-queue.js';
import { whenAborted } from '../runtime/abort-listeners.js';
import type { SetMember } from '../runtime/intrusive-set.js';
import { LazyAbort } from '../runtime/lazy-abort.js';
import { anySignal } from '../runtime/any-signal.js';

/**
 * Ends a transaction before it is done: its time is over, its caller's signal aborts, or the module
 * is closed. Makes an `AbortSignal` only on demand.
 */
export class CancellationToken implements SetMember {
  index = -1;
  private readonly alarm: ScheduledCall;
  private readonly abort = new LazyAbort();
  /** Rejects the current wait: a transaction waits for one thing at a time. */
  private rejectWait: ((reason: unknown) => void) | undefined;
  private stopListening: (() => void) | undefined;
  /** True if the time was over before anything else ended it. */
  isTimedOut = false;

  constructor(
    timeoutMs: number,
    private readonly makeTimeoutError: () => Error,
    private readonly callerSignal: AbortSignal | undefined,
  ) {
    this.alarm = schedule(performance.now() + timeoutMs, () => void this.timeOut());
    if (callerSignal?.aborted) this.onCallerAbort();
    else if (callerSignal) this.stopListening = whenAborted(callerSignal, this.onCallerAbort);
  }

  get isCancelled(): boolean {
    return this.abort.isAborted;
  }

  get reason(): unknown {
    return this.abort.reason;
  }

  /** Aborts when the transaction is to end. */
  get signal(): AbortSignal {
    const { callerSignal } = this;
    const { signal } = this.abort;
    return callerSignal ? anySignal(callerSignal, signal) : signal;
  }

  cancel(reason: unknown): void {
    if (this.isCancelled) return;
    this.abort.abort(reason);
    this.rejectWait?.(reason);
  }

  /**
   * Ends it since there is no time left, or too little.
   * @returns why it has ended, which may be something that came before
   */
  timeOut(): unknown {
    if (!this.isCancelled) {
      this.isTimedOut = true;
      this.cancel(this.makeTimeoutError());
    }
    return this.reason;
  }

  throwIfCancelled(): void {
    if (this.isCancelled) throw this.reason;
  }

  /**
   * Settles as `promise` does, or rejects with the reason as soon as there is one.
   * @param onLate receives a value that arrives after the wait has ended
   */
  until<T>(promise: PromiseLike<T>, onLate?: (value: T) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      const settle = (value: T): void => {
        if (this.isCancelled) onLate?.(value);
        resolve(value);
      };
      promise.then(settle, reject);
      if (this.isCancelled) reject(this.reason);
      else this.rejectWait = reject;
    });
  }

  /** The transaction is done: leaves no alarm and no listener behind. */
  end(): void {
    unschedule(this.alarm);
    this.stopListening?.();
  }

  private readonly onCallerAbort = (): void => this.cancel(this.callerSignal?.reason);
}
