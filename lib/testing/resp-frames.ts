/**
 * Outcome of reading one frame: where it ends, or how many bytes must have arrived before a new try
 * can succeed.
 */
export type FrameAttempt<T> = { end: number; value: T } | { needed: number };

/** Cuts a byte stream into frames; chunks may begin and end anywhere. */
export class FrameReader<T> {
  #chunks: Buffer[] = [];
  #length = 0;
  #needed = 1;

  constructor(private readonly attempt: (buffer: Buffer, start: number) => FrameAttempt<T>) {}

  /** The frames that this chunk completes, each with its bytes as they came. */
  push(chunk: Buffer): { value: T; bytes: Buffer }[] {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    // A large value is joined once, when it is complete, and not once per chunk.
    if (this.#length < this.#needed) return [];
    const buffer = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks, this.#length);
    const frames: { value: T; bytes: Buffer }[] = [];
    let start = 0;
    this.#needed = 1;
    while (start < buffer.length) {
      const result = this.attempt(buffer, start);
      if ('needed' in result) {
        this.#needed = result.needed;
        break;
      }
      frames.push({ value: result.value, bytes: buffer.subarray(start, result.end) });
      start = result.end;
    }
    this.#chunks = start === buffer.length ? [] : [buffer.subarray(start)];
    this.#length = buffer.length - start;
    return frames;
  }
}

/** A request as it went over the wire. */
export interface RedisCommand {
  /** Upper case. */
  readonly name: string;
  /** Without the name. */
  readonly args: readonly Buffer[];
}

const ASTERISK = 0x2a;
const CRLF = '\r\n';

/** One request: an array of bulk strings, or an inline command. */
export function readRequest(buffer: Buffer, start: number): FrameAttempt<RedisCommand> {
  const head = buffer.indexOf(CRLF, start);
  if (head < 0) return { needed: buffer.length - start + 1 };
  if (buffer[start] !== ASTERISK) {
    const words = buffer.toString('latin1', start, head).split(' ').filter(Boolean);
    return { end: head + 2, value: toCommand(words.map((word) => Buffer.from(word, 'latin1'))) };
  }
  const parts: Buffer[] = [];
  let at = head + 2;
  for (let left = sizeAfter(buffer, start, head); left > 0; left--) {
    const line = buffer.indexOf(CRLF, at);
    if (line < 0) return { needed: buffer.length - start + 1 };
    const from = line + 2;
    const to = from + sizeAfter(buffer, at, line);
    if (to + 2 > buffer.length) return { needed: to + 2 - start };
    parts.push(buffer.subarray(from, to));
    at = to + 2;
  }
  return { end: at, value: toCommand(parts) };
}

function toCommand([name, ...args]: Buffer[]): RedisCommand {
  return { name: name?.toString('latin1').toUpperCase() ?? '', args };
}

/**
 * The decimal number between a type byte and the end of its line; a null's -1 counts as nothing to
 * come.
 */
function sizeAfter(buffer: Buffer, typeAt: number, lineEnd: number): number {
  return Math.max(0, Number(buffer.toString('latin1', typeAt + 1, lineEnd)));
}

/** A push answers no request: it must not be counted against the ones that wait. */
export type ReplyKind = 'reply' | 'push';

/**
 * One RESP2 or RESP3 reply, found by its shape alone. Attributes belong to the reply they precede.
 */
export function readReply(buffer: Buffer, start: number): FrameAttempt<ReplyKind> {
  // Values still to be read on the way to the end: flat, for a nested reply needs no more than
  // their number.
  let open = 1;
  let at = start;
  let kind: ReplyKind = 'reply';
  let top = true;
  while (open > 0) {
    const line = at < buffer.length ? buffer.indexOf(CRLF, at) : -1;
    if (line < 0) return { needed: buffer.length - start + 1 };
    const type = String.fromCharCode(buffer[at] ?? 0);
    const size = () => sizeAfter(buffer, at, line);
    open -= 1;
    let end = line + 2;
    if (type === '$' || type === '!' || type === '=') {
      const isNull = buffer[at + 1] === 0x2d;
      end = isNull ? line + 2 : line + 2 + size() + 2;
      if (end > buffer.length) return { needed: end - start };
    } else if (type === '*' || type === '~' || type === '>') {
      open += size();
    } else if (type === '%') {
      open += 2 * size();
    } else if (type === '|') {
      open += 2 * size() + 1;
    }
    if (top && type === '>') kind = 'push';
    top = false;
    at = end;
  }
  return { end: at, value: kind };
}

/** Answered by pushes, one per channel, and not by a reply. */
export function isSubscription(command: RedisCommand): boolean {
  return /^[PS]?(UN)?SUBSCRIBE$/.test(command.name);
}

/**
 * RESP2 has no push type: on a subscribed connection, and only there, these arrays are what RESP3
 * sends as pushes.
 */
export function isResp2Push(bytes: Buffer): boolean {
  return /^\*[34]\r\n\$\d+\r\n[ps]?(message|(un)?subscribe)\r\n/.test(bytes.toString('latin1', 0, 32));
}
