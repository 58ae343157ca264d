import { NotAnIntegerError } from '../atomic-redis.errors.js';
import type { KeySpace } from '../scripting/key-space.js';
import { CounterState } from './lua-counter.js';

/** Returns the keys in the order of the script: the counters, then the keys that serve each. */
export function keysOf(keys: KeySpace, counters: readonly string[]): string[] {
  const all = [...counters];
  for (const counter of counters) all.push(keys.colocated('life', counter));
  for (const counter of counters) all.push(keys.colocated('holds', counter));
  return all;
}

/** Returns a counter and the keys that every change of it uses. */
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
