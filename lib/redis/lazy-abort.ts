/** An `AbortController` that is made when somebody asks for its signal: to make one costs as much as a good part of a call. */
export class LazyAbort {
  private controller: AbortController | undefined;
  private aborted: { readonly reason: Error } | undefined;

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

  /** The first reason stands. */
  abort(reason: Error): void {
    this.aborted ??= { reason };
    this.controller?.abort(reason);
  }
}
