/**
 * The callbacks that wait for a signal. They share one listener, since Node.js warns of a leak if a
 * signal has more than ten.
 */
class AbortListeners {
  private readonly callbacks = new Set<() => void>();

  constructor(private readonly signal: AbortSignal) {}

  add(callback: () => void): void {
    if (this.callbacks.size === 0) this.signal.addEventListener('abort', this.onAbort, { once: true });
    this.callbacks.add(callback);
  }

  delete(callback: () => void): void {
    if (this.callbacks.delete(callback) && this.callbacks.size === 0)
      this.signal.removeEventListener('abort', this.onAbort);
  }

  private readonly onAbort = (): void => {
    const callbacks = [...this.callbacks];
    this.callbacks.clear();
    for (const callback of callbacks) callback();
  };
}

/** Kept on their signal, not in a WeakMap: see docs/decisions/scripts.md. */
const LISTENERS = Symbol('listeners');

/**
 * Calls `callback`, which must not throw, once the signal aborts. Calling the returned function
 * before prevents it. For a signal that has already aborted, `callback` is never called.
 */
export function whenAborted(
  signal: AbortSignal & { [LISTENERS]?: AbortListeners },
  callback: () => void,
): () => void {
  const listeners = (signal[LISTENERS] ??= new AbortListeners(signal));
  listeners.add(callback);
  return () => listeners.delete(callback);
}
