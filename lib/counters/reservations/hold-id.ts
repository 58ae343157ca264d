import { randomBytes } from 'node:crypto';

/** One hold: what its id stands for. */
export interface HoldReference {
  readonly counter: string;
  /** As in the counter's sorted set of holds: `<quantity>:<nonce>`. */
  readonly hold: string;
}

const NONCE_BYTES = 16;
const HOLD = /^([1-9]\d{0,15}):([\w-]{22})$/;

/** The nonce is not to be guessed: who has a hold's id may confirm and release it. */
export const newHold = (quantity: number): string =>
  `${quantity}:${randomBytes(NONCE_BYTES).toString('base64url')}`;

export const quantityOf = (hold: string): number => Number(hold.slice(0, hold.indexOf(':')));

/** Names the counter too, so that the hold is found in one round trip, by any process. */
export const idOf = ({ counter, hold }: HoldReference): string =>
  Buffer.from(`${hold}:${counter}`).toString('base64url');

/** Undefined for what is no id of a hold. */
export function parseId(id: string): HoldReference | undefined {
  const text = Buffer.from(id, 'base64url').toString();
  const end = text.indexOf(':', text.indexOf(':') + 1);
  const reference = { hold: text.slice(0, end), counter: text.slice(end + 1) };
  const isId = HOLD.test(reference.hold) && reference.counter !== '' && idOf(reference) === id;
  return isId ? reference : undefined;
}
