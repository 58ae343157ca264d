import type { KeySpace } from '../scripting/key-space.js';

/** The keys of one permit's name, all in the slot of the name. */
export interface PermitKeys {
  /** Hash: the last fence of each slot, and until when each that waits is taken to be alive. */
  readonly state: string;
  /** Sorted set of those that wait, by their tickets. Messages about it name the one that is given a permit. */
  readonly line: string;
  /** For each slot, the token of its holder, for as long as the lease lasts. */
  readonly slots: readonly string[];
}

/** Returns the key that holds the token of a slot's holder. */
const slotKey = (keys: KeySpace, name: string, slot: number): string =>
  keys.colocated(`permit-${slot}`, name);

export const permitKeys = (keys: KeySpace, name: string, limit: number): PermitKeys => ({
  state: keys.colocated('permits', name),
  line: keys.colocated('permit-line', name),
  slots: Array.from({ length: limit }, (_, slot) => slotKey(keys, name, slot)),
});
