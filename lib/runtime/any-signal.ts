/** Keeps the signals that a combined one was made of for as long as it exists itself. */
const sourcesOf = new WeakMap<AbortSignal, readonly AbortSignal[]>();

/**
 * A signal that aborts as soon as one of `sources` does. In place of a bare `AbortSignal.any`,
 * which holds its sources weakly: before Node.js 26, a signal of `AbortSignal.timeout` that nothing
 * else holds can be collected, and then its time-out never comes.
 */
export function anySignal(...sources: readonly AbortSignal[]): AbortSignal {
  const signal = AbortSignal.any([...sources]);
  sourcesOf.set(signal, sources);
  return signal;
}
