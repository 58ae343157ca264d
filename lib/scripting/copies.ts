/**
 * Copies of at least this many bytes are remembered. Copying a smaller one again costs less than
 * remembering it.
 */
const LARGE = 4_096;

/** The large copies that were made here. No code outside the library holds one. */
const copies = new WeakSet<Uint8Array>();

/**
 * Copies bytes as soon as a call gets them. The call may wait before it is written, and later
 * changes by its caller must not reach Redis unchecked. Text is returned as it is, and so is a
 * large copy that was made here before.
 */
export function copyBytes<Text extends string>(given: Text | Uint8Array): Text | Buffer {
  if (typeof given === 'string') return given;
  if (copies.has(given)) return given as Buffer;
  const copy = Buffer.from(given);
  if (copy.length >= LARGE) copies.add(copy);
  return copy;
}
