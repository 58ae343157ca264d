import { randomBytes } from 'node:crypto';

const ID_BYTES = 16;

/** Bytes that are drawn at a time: a call for 16 costs nearly as much as one for some thousands. */
const POOL_BYTES = 4_096;

let pool = Buffer.alloc(0);
let used = 0;

/** Returns 128 random bits, as text. */
export function randomId(encoding: 'hex' | 'base64url'): string {
  if (used === pool.length) {
    pool = randomBytes(POOL_BYTES);
    used = 0;
  }
  const begin = used;
  used += ID_BYTES;
  return pool.toString(encoding, begin, used);
}
