import type { KeySpace } from '../../scripting/key-space.js';

/** What has become of a transfer: `open` until the amount is known to be in its target, `credited`, or known not to be and given back, `refunded`. */
export type TransferState = 'open' | 'credited' | 'refunded';

/** A transfer across slots that is under way, or was interrupted. */
export interface PendingTransfer {
  readonly id: string;
  readonly from: string;
  readonly to: string;
  /** As it was given: a number or a bigint. */
  readonly amount: number | bigint;
  readonly reference?: string;
  /** When the amount was taken, in milliseconds since 1970 by Redis's clock. */
  readonly begunAtMs: number;
  /** Of one that is not `open`, only what the library keeps for itself is left to be removed. */
  readonly state: TransferState;
}

type Details = Pick<PendingTransfer, 'from' | 'to' | 'reference'> & { readonly isNumber: boolean };

/** What a recoverer has to know, as it is kept with the amount. */
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

/** What the scripts keep of the transfers of one slot, for their headers. */
export const INTENTS = 'of the slot, a hash of "<state>,<amount>,<details>" by id';
export const ORDER =
  'of the slot, a sorted set of the same ids with equal scores, so that they are in the order of their times';

/** What is under way from the balances of one slot. */
export const keysOfSlot = (keys: KeySpace, slot: number): { intents: string; order: string } => ({
  intents: keys.pinned('transfers', slot, 'intents'),
  order: keys.pinned('transfers', slot, 'order'),
});

/** What the target decided, beside its balance. */
export const decisionKey = (keys: KeySpace, { id, to }: Pick<PendingTransfer, 'id' | 'to'>): string =>
  keys.pinned('transfer', keys.slotOf(to), id);
