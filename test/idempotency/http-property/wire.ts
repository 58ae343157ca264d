import { connect } from 'node:net';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';

/** One response as it came over the wire. */
export interface WireAnswer {
  /** `HTTP/1.1 201 Created` */
  readonly head: string;
  readonly status: number;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly framing: 'length' | 'chunked' | 'close' | 'none';
  /** Without its chunks. */
  readonly body: Buffer;
  readonly isComplete: boolean;
}

/** The observations of one client on one connection. */
export interface Seen {
  readonly answers: readonly WireAnswer[];
  /** Bytes behind the last answer that are no answer. */
  readonly rest: string;
  readonly isClosed: boolean;
  /** Why the client went before it had all answers. */
  readonly gaveUp: 'left' | 'quiet' | 'deadline' | undefined;
}

export interface Visit {
  readonly port: number;
  /** Requests; those but the first follow at once or once the one before is answered. */
  readonly requests: readonly string[];
  readonly pipelined: boolean;
  /** True if the server closes the connection behind the answer. */
  readonly closes: boolean;
  /** Resolves when the client is to go. */
  readonly leave?: { readonly at: 'once' | 'head' | 'soon' | 'called'; readonly called: Promise<unknown> };
  /**
   * True if nothing runs on the server any more; then the client waits a little longer and leaves.
   */
  readonly isStill?: () => boolean;
  readonly quietMs: () => number;
  readonly deadlineMs: number;
}

export async function visit({
  port,
  requests,
  pipelined,
  closes,
  leave,
  isStill,
  quietMs,
  deadlineMs,
}: Visit): Promise<Seen> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  let bytes = Buffer.alloc(0);
  let isClosed = false;
  let arrivals = 0;
  let sent = 0;
  const waiting = { wake: () => {} };
  socket.on('error', () => undefined);
  socket.on('close', () => {
    isClosed = true;
    waiting.wake();
  });
  socket.on('data', (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk]);
    arrivals++;
    if (leave?.at === 'head') go();
    waiting.wake();
  });
  if (pipelined) socket.write(requests.join(''));
  else socket.write(requests[0]!);
  sent = pipelined ? requests.length : 1;
  let hasLeft = false;
  const go = () => {
    hasLeft = true;
    socket.destroy();
  };
  if (leave?.at === 'once') socket.once('connect', () => setImmediate(go));
  if (leave?.at === 'soon') setTimeout(go, 3);
  void leave?.called.then(go);

  const limit = performance.now() + deadlineMs;
  let quietSince = performance.now();
  let seenArrivals = 0;
  for (;;) {
    // A client that has gone does not know whether more would have come.
    const { answers, rest } = parseAnswers(bytes, isClosed && !hasLeft);
    const complete = answers.filter((answer) => answer.isComplete).length;
    if (!pipelined && complete === sent && sent < requests.length && !isClosed) {
      socket.write(requests[sent]!);
      sent++;
    }
    const isAnswered = complete === requests.length && !closes;
    const now = performance.now();
    if (arrivals !== seenArrivals || (isStill && !isStill())) quietSince = now;
    seenArrivals = arrivals;
    const isQuiet = isStill?.() === true && now - quietSince > quietMs();
    const isLate = now > limit;
    if (isClosed || isAnswered || isQuiet || isLate || hasLeft) {
      const gaveUp =
        isClosed && !hasLeft
          ? undefined
          : hasLeft
            ? 'left'
            : isAnswered
              ? undefined
              : isQuiet
                ? 'quiet'
                : 'deadline';
      if (gaveUp === 'quiet' || gaveUp === 'deadline') {
        // Bytes that have arrived come first: on a machine that stalls, timers fire before it
        // reads.
        for (let turns = 0; turns < 5; turns++) await turn();
        if (arrivals !== seenArrivals) continue;
      }
      socket.destroy();
      return { answers, rest, isClosed: isClosed && !hasLeft, gaveUp };
    }
    await Promise.race([new Promise<void>((resolve) => (waiting.wake = resolve)), sleep(10)]);
  }
}

/** Reads as many answers as there are. */
export function parseAnswers(bytes: Buffer, isClosed: boolean): { answers: WireAnswer[]; rest: string } {
  const answers: WireAnswer[] = [];
  let at = 0;
  while (at < bytes.length) {
    const headEnd = bytes.indexOf('\r\n\r\n', at);
    const text = bytes.subarray(at, headEnd < 0 ? bytes.length : headEnd).toString('latin1');
    if (headEnd < 0 || !/^HTTP\/1\.[01] \d{3}/.test(text))
      return { answers, rest: bytes.subarray(at).toString('latin1') };
    const [head = '', ...lines] = text.split('\r\n');
    const headers = lines.map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
    });
    const valueOf = (name: string) => headers.find(([each]) => each === name)?.[1];
    const status = Number(head.split(' ')[1]);
    at = headEnd + 4;
    if (status < 200) continue;
    const length = valueOf('content-length');
    const framing =
      status === 204 || status === 304
        ? 'none'
        : valueOf('transfer-encoding') === 'chunked'
          ? 'chunked'
          : length !== undefined
            ? 'length'
            : 'close';
    const read = readBody(bytes, at, framing, Number(length), isClosed);
    answers.push({ head, status, headers, framing, body: read.body, isComplete: read.isComplete });
    at = read.end;
    if (!read.isComplete) break;
  }
  return { answers, rest: bytes.subarray(at).toString('latin1') };
}

function readBody(
  bytes: Buffer,
  from: number,
  framing: WireAnswer['framing'],
  length: number,
  isClosed: boolean,
): { body: Buffer; end: number; isComplete: boolean } {
  if (framing === 'none') return { body: Buffer.alloc(0), end: from, isComplete: true };
  if (framing === 'close') return { body: bytes.subarray(from), end: bytes.length, isComplete: isClosed };
  if (framing === 'length') {
    const end = Math.min(from + length, bytes.length);
    return { body: bytes.subarray(from, end), end, isComplete: end === from + length };
  }
  const chunks: Buffer[] = [];
  let at = from;
  for (;;) {
    const lineEnd = bytes.indexOf('\r\n', at);
    const size =
      lineEnd < 0 ? Number.NaN : Number.parseInt(bytes.subarray(at, lineEnd).toString('latin1'), 16);
    if (Number.isNaN(size)) break;
    const start = lineEnd + 2;
    chunks.push(bytes.subarray(start, Math.min(start + size, bytes.length)));
    const end = start + size + 2;
    if (end > bytes.length) break;
    if (size === 0) return { body: Buffer.concat(chunks), end, isComplete: true };
    at = end;
  }
  return { body: Buffer.concat(chunks), end: bytes.length, isComplete: false };
}
