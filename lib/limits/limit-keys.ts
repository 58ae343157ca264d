import type { KeySpace } from '../scripting/key-space.js';
import { LETTER, type LimitName } from './limit.js';

/**
 * Returns the keys of a limit in Redis, in the slot of the user's key. What names a limit is in
 * them: limits that differ in algorithm or window share nothing, and one that is not used any more
 * expires by itself.
 */
export const keysOfLimit = (
  keys: KeySpace,
  limit: Required<LimitName>,
): { readonly state: string; readonly holds: string } => ({
  state: stateOf(keys, limit),
  holds: holdsOf(keys, limit),
});

type Name = Required<LimitName>;

export const stateOf = (keys: KeySpace, { key, algorithm, perMs }: Name): string =>
  keys.colocated(`limit:${LETTER[algorithm]}${perMs}`, key);

/** Returns the key of the limit's reservations. */
export const holdsOf = (keys: KeySpace, { key, algorithm, perMs }: Name): string =>
  keys.colocated(`limit-holds:${LETTER[algorithm]}${perMs}`, key);
