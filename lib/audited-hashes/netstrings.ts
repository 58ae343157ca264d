/**
 * Writes a row of byte strings as one: each is its length in decimal, a colon, its bytes and a
 * comma (https://cr.yp.to/proto/netstrings.txt); `-,` stands for none. Lua and Redis write and read
 * it exactly, whatever the bytes.
 */
export const luaNetstrings = `
local function netstring(bytes)
  if not bytes then return '-,' end
  return #bytes .. ':' .. bytes .. ','
end
`;

/** @returns the byte strings, or undefined if the bytes have another form */
export function readNetstrings(bytes: Buffer): (Buffer | null)[] | undefined {
  const found: (Buffer | null)[] = [];
  for (let at = 0; at < bytes.length;) {
    if (bytes.subarray(at, at + 2).toString('latin1') === '-,') {
      found.push(null);
      at += 2;
      continue;
    }
    const colon = bytes.indexOf(':', at);
    const digits = bytes.subarray(at, colon).toString('latin1');
    const end = colon + 1 + Number(digits);
    if (colon < 0 || !/^(0|[1-9]\d{0,9})$/.test(digits) || bytes[end] !== 0x2c) return undefined;
    found.push(bytes.subarray(colon + 1, end));
    at = end + 1;
  }
  return found;
}
