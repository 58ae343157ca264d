/** Copies of at least this many bytes are remembered: copying a smaller one again costs less than that. */
const LARGE = 4_096;

/** The large copies made here. Nothing outside the library holds one. */
const copies = new WeakSet<Uint8Array>();

/**
 * Copies bytes when a call is given them, since a call may wait before it is written: the caller's later changes must not reach Redis unchecked.
 * Text is returned as it is, and so is a large copy made here before.
 */
export function copyBytes<Text extends string>(given: Text | Uint8Array): Text | Buffer {
  if (typeof given === 'string') return given;
  if (copies.has(given)) return given as Buffer;
  const copy = Buffer.from(given);
  if (copy.length >= LARGE) copies.add(copy);
  return copy;
}
