import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Exchange, Recording } from './recorder.js';
import { Frames, isError, isPush } from './resp.js';

/** Bytes of one write. */
const PIECE = 1 << 18;

/** The last request of a stream, and its reply. */
const END = '*2\r\n$4\r\nECHO\r\n$16\r\nend of recording\r\n';
const ENDED = Buffer.from('end of recording\r\n');

/** A moment in milliseconds since the epoch, as text. */
const MOMENT = /(?<!\d)1\d{12}(?!\d)/g;
const DAY_MS = 86_400_000;

/**
 * Sends a recording again, as fast as the server reads it. Moments in it, such as deadlines, are
 * moved by the time that has passed since.
 */
export class Replayer {
  readonly #streams: Stream[];

  /** @param merged sends all on one connection, in the order of the recording */
  constructor(
    { exchanges, measuredFrom, startedAt }: Recording,
    private readonly port: number,
    merged: boolean,
  ) {
    const streams = new Map<number, Stream>();
    for (const [position, exchange] of exchanges.entries()) {
      const connection = merged ? 0 : exchange.connection;
      const stream = streams.get(connection) ?? new Stream(startedAt);
      streams.set(connection, stream);
      stream.add(exchange, position < measuredFrom);
    }
    this.#streams = [...streams.values()];
  }

  /** Opens the connections and sends what prepares the rest. */
  async prepare(): Promise<void> {
    await Promise.all(this.#streams.map((stream) => stream.prepare(this.port)));
  }

  /** Sends what is measured. */
  async replay(): Promise<void> {
    await Promise.all(this.#streams.map((stream) => stream.replay()));
  }

  /** Closes the connections. @throws where a reply is not that of the recorded work */
  end(): void {
    for (const stream of this.#streams) stream.end();
  }
}

/** The part of a recording that goes over one connection. */
class Stream {
  readonly #preparing = new Requests();
  readonly #measured = new Requests();
  #socket: Socket | undefined;
  #received: Buffer[] = [];
  #onEnd: (() => void) | undefined;

  constructor(private readonly startedAt: number) {}

  add(exchange: Exchange, prepares: boolean): void {
    (prepares ? this.#preparing : this.#measured).add(exchange);
  }

  async prepare(port: number): Promise<void> {
    const socket = connect(port, '127.0.0.1');
    this.#socket = socket;
    socket.setNoDelay(true);
    await once(socket, 'connect');
    socket.on('data', (chunk) => {
      this.#received.push(chunk);
      if (endsWithMark(this.#received)) this.#onEnd?.();
    });
    await this.#send(this.#preparing.later(Date.now() - this.startedAt));
    this.#preparing.check(this.#received, true);
    // Before the clock runs.
    this.#later = this.#measured.later(Date.now() - this.startedAt);
  }

  #later: Buffer = Buffer.alloc(0);

  async replay(): Promise<void> {
    await this.#send(this.#later);
  }

  end(): void {
    this.#socket?.destroy();
    this.#measured.check(this.#received, false);
  }

  async #send(requests: Buffer): Promise<void> {
    const socket = this.#socket!;
    this.#received = [];
    const ended = new Promise<void>((resolve, reject) => {
      this.#onEnd = resolve;
      socket.once('error', reject);
      socket.once('close', () => reject(new Error('The server closed a connection of the replay')));
    });
    for (let at = 0; at < requests.length; at += PIECE)
      if (!socket.write(requests.subarray(at, at + PIECE)))
        await Promise.race([once(socket, 'drain'), ended]);
    socket.write(END);
    await ended;
    socket.removeAllListeners('error').removeAllListeners('close');
  }
}

/** Requests in a row, and the replies that they had. */
class Requests {
  readonly #requests: Buffer[] = [];
  readonly #replies: Buffer[] = [];
  #moments: { at: number; value: number }[] | undefined;

  add({ request, reply }: Exchange): void {
    this.#requests.push(request);
    this.#replies.push(reply);
  }

  later(byMs: number): Buffer {
    const all = Buffer.concat(this.#requests);
    this.#moments ??= momentsIn(all);
    for (const { at, value } of this.#moments) all.write(String(value + byMs), at, 'latin1');
    return all;
  }

  /** @param lenient only an error that was none counts: versions and ids of connections differ */
  check(received: readonly Buffer[], lenient: boolean): void {
    const frames = [...new Frames().push(Buffer.concat(received))].filter((frame) => !isPush(frame));
    // The last one answers what ends the stream.
    if (frames.length - 1 !== this.#replies.length)
      throw new Error(`${frames.length - 1} replies to ${this.#replies.length} recorded requests`);
    for (const [i, recorded] of this.#replies.entries()) {
      const reply = frames[i]!;
      const isSame = lenient ? isError(reply) === isError(recorded) : shapeOf(reply) === shapeOf(recorded);
      if (!isSame)
        throw new Error(
          `Another reply than the recorded one to ${textOf(this.#requests[i]!)}: ${textOf(reply)}, recorded: ${textOf(recorded)}`,
        );
    }
  }
}

function momentsIn(bytes: Buffer): { at: number; value: number }[] {
  const now = Date.now();
  return [...bytes.toString('latin1').matchAll(MOMENT)]
    .map((match) => ({ at: match.index, value: Number(match[0]) }))
    .filter(({ value }) => Math.abs(value - now) < 3 * DAY_MS);
}

/** Times to live and moments differ. */
const shapeOf = (reply: Buffer): string => reply.toString('latin1').replaceAll(/\d+/g, '#');

const textOf = (bytes: Buffer): string => JSON.stringify(bytes.toString('latin1').slice(0, 300));

function endsWithMark(chunks: readonly Buffer[]): boolean {
  const last = chunks.at(-1)!;
  const tail =
    last.length >= ENDED.length || chunks.length === 1 ? last : Buffer.concat(chunks.slice(-ENDED.length));
  return tail.subarray(-ENDED.length).equals(ENDED);
}
