import type { KeySpace } from '../../scripting/key-space.js';

/** A transfer across slots that is under way, or was interrupted. */
export interface PendingTransfer {
  readonly id: string;
  readonly from: string;
  readonly to: string;
  /** The amount as the caller gave it: a number or a bigint. */
  readonly amount: number | bigint;
  readonly reference?: string;
  /** The time at which the amount was taken, in milliseconds since 1970 by Redis's clock. */
  readonly begunAtMs: number;
  /**
   * `open`, then `credited` once the amount is known to be in the target, or `refunded` once it was
   * given back. If it is not `open`, only the library's own keys are left to be removed.
   */
  readonly state: 'open' | 'credited' | 'refunded';
}

export type TransferState = PendingTransfer['state'];

type Details = Pick<PendingTransfer, 'from' | 'to' | 'reference'> & { readonly isNumber: boolean };

/** The facts that recovery needs, as they are kept with the amount. */
export const detailsOf = ({
  from,
  to,
  amount,
  reference,
}: Pick<PendingTransfer, 'from' | 'to' | 'amount' | 'reference'>): string =>
  JSON.stringify({ from, to, reference, isNumber: typeof amount === 'number' } satisfies Details);

/** @param intent `<state>,<amount>,<details>` */
export function parseTransfer(id: string, intent: string): PendingTransfer {
  const [, state, amount, details] = /^(\w+),(\d+),(.*)$/s.exec(intent)!;
  const { from, to, reference, isNumber } = JSON.parse(details!) as Details;
  return {
    id,
    from,
    to,
    amount: isNumber ? Number(amount) : BigInt(amount!),
    ...(reference !== undefined && { reference }),
    begunAtMs: Number(id.slice(0, id.indexOf('-'))),
    state: state as TransferState,
  };
}

/** Descriptions of the keys of one slot, for the headers of scripts. */
export const INTENTS = 'of the slot, a hash of "<state>,<amount>,<details>" by id';
export const ORDER =
  'of the slot, a sorted set of the same ids with equal scores, so that they are in the order of their times';

/** The keys of the transfers that take from balances of one slot. */
export const keysOfSlot = (keys: KeySpace, slot: number): { intents: string; order: string } => ({
  intents: keys.pinned('transfers', slot, 'intents'),
  order: keys.pinned('transfers', slot, 'order'),
});

/** The key of the target's decision, beside its balance. */
export const decisionKey = (keys: KeySpace, { id, to }: Pick<PendingTransfer, 'id' | 'to'>): string =>
  keys.pinned('transfer', keys.slotOf(to), id);
