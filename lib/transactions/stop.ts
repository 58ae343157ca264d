/**
 * What ends a transaction before it is done: its time is over, its caller's signal aborts, or the module is closed. Costs a timer; an
 * `AbortSignal` is made only for who asks for it.
 */
export class Stop {
  private readonly timer: NodeJS.Timeout;
  private controller: AbortController | undefined;
  private stopped = false;
  private why: unknown;
  /** Of the one wait that is under way: a transaction waits for one thing at a time. */
  private rejectWait: ((reason: unknown) => void) | undefined;
  /** Whether the time was over before anything else ended it. */
  isTimedOut = false;

  constructor(
    timeoutMs: number,
    makeTimeoutError: () => Error,
    private readonly callerSignal: AbortSignal | undefined,
  ) {
    this.timer = setTimeout(() => {
      this.isTimedOut = !this.stopped;
      this.stop(makeTimeoutError());
    }, timeoutMs);
    if (callerSignal?.aborted) this.onCallerAbort();
    else callerSignal?.addEventListener('abort', this.onCallerAbort, { once: true });
  }

  get isStopped(): boolean {
    return this.stopped;
  }

  get reason(): unknown {
    return this.why;
  }

  /** Aborts when the transaction is to end. */
  get signal(): AbortSignal {
    if (!this.controller) {
      this.controller = new AbortController();
      if (this.stopped) this.controller.abort(this.why);
    }
    const { callerSignal, controller } = this;
    return callerSignal ? AbortSignal.any([callerSignal, controller.signal]) : controller.signal;
  }

  stop(reason: unknown): void {
    if (this.stopped) return;
    this.stopped = true;
    this.why = reason;
    this.controller?.abort(reason);
    this.rejectWait?.(reason);
  }

  throwIfStopped(): void {
    if (this.stopped) throw this.why;
  }

  /** Settles as `promise` does, or rejects with the reason as soon as there is one. */
  until<T>(promise: PromiseLike<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      promise.then(resolve, reject);
      if (this.stopped) reject(this.why);
      else this.rejectWait = reject;
    });
  }

  /** The transaction is done: leaves no timer and no listener behind. */
  end(): void {
    clearTimeout(this.timer);
    this.callerSignal?.removeEventListener('abort', this.onCallerAbort);
  }

  private readonly onCallerAbort = (): void => this.stop(this.callerSignal?.reason);
}
