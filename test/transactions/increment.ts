import type { Transaction } from '../../lib/index.js';

/** A body that adds one to `k`, and returns the new value. */
export const increment = async (tx: Transaction): Promise<number> => {
  const next = Number(await tx.read.get('k')) + 1;
  tx.write.set('k', next);
  return next;
};
