import { NotAnIntegerError } from '../atomic-redis.errors.js';
import type { KeySpace } from '../scripting/key-space.js';
import { CounterState } from './lua-counter.js';

/** Returns the keys in the order of the script: the counters, then the keys that serve each. */
export const keysOf = (keys: KeySpace, counters: readonly string[]): string[] => [
  ...counters,
  ...counters.map((counter) => keys.colocated('life', counter)),
  ...counters.map((counter) => keys.colocated('holds', counter)),
];

/** Returns a counter and the keys that serve it whoever changes it. */
export const companionsOf = (
  keys: KeySpace,
  counter: string,
): { readonly counter: string; readonly life: string; readonly holds: string } => ({
  counter,
  life: keys.colocated('life', counter),
  holds: keys.colocated('holds', counter),
});

/** @throws NotAnIntegerError when the script found something else than a counter */
export function assertCounter(key: string, answer: string): void {
  if (answer === CounterState.NotAnInteger) throw new NotAnIntegerError(key, 'other-string');
  if (answer === CounterState.WrongType) throw new NotAnIntegerError(key, 'other-type');
}
