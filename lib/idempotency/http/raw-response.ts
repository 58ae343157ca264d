/** The arguments of `write` and `end` of a response, whose overloads leave out any of the three. The chunk is a copy: its owner may use the memory again. */
export function parseWrite(args: unknown[]): { chunk?: Buffer; callback?: () => void } {
  const callback = args.find((arg) => typeof arg === 'function') as (() => void) | undefined;
  const [chunk, encoding] = args;
  if (typeof chunk === 'string') {
    return {
      chunk: Buffer.from(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8'),
      callback,
    };
  }
  return chunk instanceof Uint8Array ? { chunk: Buffer.from(chunk), callback } : { callback };
}

/** Headers as `writeHead` takes them in an array: pairs, or names and values in turn. */
export function pairsOf(headers: unknown[]): [string, string][] {
  if (Array.isArray(headers[0])) return headers as [string, string][];
  const pairs: [string, string][] = [];
  for (let i = 0; i + 1 < headers.length; i += 2)
    pairs.push([headers[i] as string, headers[i + 1] as string]);
  return pairs;
}
