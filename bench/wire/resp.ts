const CRLF = '\r\n';

/**
 * Returns where the request or reply at `at` ends, in RESP2 or RESP3; -1 while a part of it is
 * missing.
 */
function endOfFrame(buffer: Buffer, at: number): number {
  const head = buffer.indexOf(CRLF, at);
  if (head < 0) return -1;
  const next = head + 2;
  switch (String.fromCharCode(buffer[at]!)) {
    case '$':
    case '=':
    case '!': {
      const length = lengthAt(buffer, at, head);
      const end = length < 0 ? next : next + length + 2;
      return end <= buffer.length ? end : -1;
    }
    case '*':
    case '~':
    case '>':
      return endOfAll(buffer, next, lengthAt(buffer, at, head));
    case '%':
      return endOfAll(buffer, next, 2 * lengthAt(buffer, at, head));
    default:
      return next;
  }
}

/** A message that answers no request. */
export const isPush = (frame: Buffer): boolean => frame[0] === '>'.charCodeAt(0);

export const isError = (reply: Buffer): boolean => reply[0] === '-'.charCodeAt(0);

/** Name of a request's command, in upper case. */
export function commandOf(request: Buffer): string {
  const name = request.indexOf(CRLF, request.indexOf(CRLF) + 2) + 2;
  return request.toString('latin1', name, request.indexOf(CRLF, name)).toUpperCase();
}

const LISTENERS = new Set(['SUBSCRIBE', 'PSUBSCRIBE', 'SSUBSCRIBE', 'BLMOVE', 'BZPOPMIN', 'BLPOP']);

/** A command that blocks its connection, or makes it one that only listens. */
export const isListener = (command: string): boolean => LISTENERS.has(command);

/** Cuts a stream into frames; chunks may begin and end anywhere. */
export class Frames {
  #rest: Buffer = Buffer.alloc(0);

  *push(chunk: Buffer): Generator<Buffer> {
    const buffer = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (at < buffer.length) {
      const end = endOfFrame(buffer, at);
      if (end < 0) break;
      yield buffer.subarray(at, end);
      at = end;
    }
    this.#rest = buffer.subarray(at);
  }
}

function endOfAll(buffer: Buffer, from: number, count: number): number {
  let at = from;
  for (let i = 0; i < count; i++) {
    if (at >= buffer.length) return -1;
    at = endOfFrame(buffer, at);
    if (at < 0) return -1;
  }
  return at;
}

const lengthAt = (buffer: Buffer, at: number, head: number): number =>
  Number(buffer.toString('latin1', at + 1, head));
