import type { KeySpace } from '../scripting/key-space.js';
import { LETTER, type LimitName } from './limit.js';

/**
 * Returns the keys of a limit in Redis, in the slot of the user's key. What names a limit is in
 * them: limits that differ in algorithm or window share nothing, and one that is not used any more
 * expires by itself.
 */
export function keysOfLimit(
  keys: KeySpace,
  { key, algorithm, perMs }: Required<LimitName>,
): { readonly state: string; readonly holds: string } {
  const name = `${LETTER[algorithm]}${perMs}`;
  return { state: keys.colocated(`limit:${name}`, key), holds: keys.colocated(`limit-holds:${name}`, key) };
}
