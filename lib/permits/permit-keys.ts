import type { KeySpace } from '../scripting/key-space.js';

/** The keys of one permit's name, all in the slot of the name. */
export interface PermitKeys {
  /** Hash: the last fence of each slot, and until when each that waits is taken to be alive. */
  readonly state: string;
  /**
   * Sorted set of those that wait, by their tickets. Messages about it name the one that is given a
   * permit.
   */
  readonly line: string;
  /** For each slot, the token of its holder, for as long as the lease lasts. */
  readonly slots: readonly string[];
}

export function permitKeys(keys: KeySpace, name: string, limit: number): PermitKeys {
  const { namespace } = keys;
  const rest = keys.colocated('', name).slice(namespace.length);
  const slots: string[] = [];
  for (let slot = 0; slot < limit; slot++) slots.push(`${namespace}permit-${slot}${rest}`);
  return { state: `${namespace}permits${rest}`, line: `${namespace}permit-line${rest}`, slots };
}
