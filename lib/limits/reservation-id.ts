import { randomBytes } from 'node:crypto';
import { checkedLimit, type CheckedLimit, type LimitAlgorithm } from './limit.js';

/** One reservation: what its id stands for. */
export interface LimitReference {
  readonly limits: readonly CheckedLimit[];
  readonly nonce: string;
}

const NONCE_BYTES = 16;
const NONCE = /^[\w-]{22}$/;

/** A nonce must not be guessed: anyone who has a reservation's id can settle it. */
export const newNonce = (): string => randomBytes(NONCE_BYTES).toString('base64url');

/** Names the limits too, so that any process settles the reservation in one round trip. */
export const idOf = ({ limits, nonce }: LimitReference): string => {
  const parts = limits.map(({ key, algorithm, limit, perMs, cost }) => [key, algorithm, limit, perMs, cost]);
  return Buffer.from(JSON.stringify([nonce, ...parts])).toString('base64url');
};

/** Returns undefined for text that is no id of a reservation. */
export function parseId(id: string): LimitReference | undefined {
  try {
    const [nonce, ...parts] = JSON.parse(Buffer.from(id, 'base64url').toString()) as [string, ...Part[]];
    const limits = parts.map(([key, algorithm, limit, perMs, cost]) => {
      const burst = algorithm === 'gcra' ? { burst: Math.max(limit, cost) } : {};
      return checkedLimit('id', { key, algorithm, limit, perMs, cost, ...burst });
    });
    const reference = { limits, nonce };
    return NONCE.test(nonce) && limits.length > 0 && idOf(reference) === id ? reference : undefined;
  } catch {
    return undefined;
  }
}

type Part = [key: string, algorithm: LimitAlgorithm, limit: number, perMs: number, cost: number];
