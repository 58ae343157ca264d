/** Kept on the signal, not in a WeakMap: see docs/decisions/scripts.md. */
const SOURCES = Symbol('sources');

/**
 * A signal that aborts as soon as one of `sources` does, and that keeps them for as long as it
 * exists. `AbortSignal.any` alone holds its sources weakly: before Node.js 26, a signal of
 * `AbortSignal.timeout` that nothing else holds can be collected, and then its time-out never
 * comes.
 */
export function anySignal(...sources: readonly AbortSignal[]): AbortSignal {
  return Object.assign(AbortSignal.any([...sources]), { [SOURCES]: sources });
}
