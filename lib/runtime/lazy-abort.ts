/** An `AbortController` that is made when somebody asks for its signal: to make one costs as much as a good part of a call. */
export class LazyAbort {
  private controller: AbortController | undefined;
  private aborted: { readonly reason: unknown } | undefined;

  get signal(): AbortSignal {
    if (!this.controller) {
      this.controller = new AbortController();
      if (this.aborted) this.controller.abort(this.aborted.reason);
    }
    return this.controller.signal;
  }

  get isAborted(): boolean {
    return this.aborted !== undefined;
  }

  get reason(): unknown {
    return this.aborted?.reason;
  }

  /** The first reason stands. */
  abort(reason: unknown): void {
    if (this.aborted) return;
    this.aborted = { reason };
    this.controller?.abort(reason);
  }
}
