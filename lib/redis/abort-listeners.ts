interface Listeners {
  readonly callbacks: Set<() => void>;
  readonly listen: () => void;
}

const listening = new WeakMap<AbortSignal, Listeners>();

/**
 * Calls `callback` when the signal aborts, until the returned function is called. Any number of calls share one listener: Node.js warns of a leak when a signal
 * has more than ten. The signal must not have aborted yet.
 */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  let listeners = listening.get(signal);
  if (!listeners) {
    const callbacks = new Set<() => void>();
    const listen = (): void => {
      listening.delete(signal);
      for (const one of callbacks) one();
    };
    listeners = { callbacks, listen };
    listening.set(signal, listeners);
    signal.addEventListener('abort', listen, { once: true });
  }
  const { callbacks, listen } = listeners;
  // One callback may wait twice.
  const own = (): void => callback();
  callbacks.add(own);
  return () => {
    if (!callbacks.delete(own) || callbacks.size > 0 || listening.get(signal)?.callbacks !== callbacks)
      return;
    listening.delete(signal);
    signal.removeEventListener('abort', listen);
  };
}
