import type { Socket } from 'node:net';

/** Bytes leave in pieces of so many milliseconds each. */
const PIECE_MS = 20;

/** Speed and pause of a line, which may change at any time. */
export interface LineState {
  readonly paused: boolean;
  /** Undefined without a limit. */
  readonly bytesPerMs: number | undefined;
}

/**
 * Writes to a socket no faster than the line is. The receiver sees bytes move all the time, as on a
 * real line that is slow.
 */
export class SlowLine {
  #queue: Buffer[] = [];
  #isBusy = false;
  #onWritten: (() => void)[] = [];

  constructor(
    private readonly socket: Socket,
    private readonly state: LineState,
  ) {}

  /** @returns false when the socket wants no more for now; it emits 'drain' then */
  write(bytes: Buffer): boolean {
    this.#queue.push(bytes);
    this.flow();
    return !this.socket.writableNeedDrain;
  }

  /** Calls `then` after the last byte. */
  whenWritten(then: () => void): void {
    this.#onWritten.push(then);
    this.flow();
  }

  /** Drops what has not been written. */
  clear(): void {
    this.#queue = [];
  }

  flow(): void {
    while (!this.#isBusy && !this.state.paused && this.socket.writable) {
      const next = this.#queue.shift();
      if (next === undefined) break;
      const { bytesPerMs } = this.state;
      const size = bytesPerMs === undefined ? next.length : Math.max(1, Math.round(bytesPerMs * PIECE_MS));
      if (size < next.length) this.#queue.unshift(next.subarray(size));
      const piece = next.subarray(0, size);
      this.socket.write(piece);
      if (bytesPerMs !== undefined) this.#rest(piece.length / bytesPerMs);
    }
    if (this.#queue.length > 0 && this.socket.writable) return;
    for (const then of this.#onWritten.splice(0)) then();
  }

  #rest(ms: number): void {
    this.#isBusy = true;
    setTimeout(() => {
      this.#isBusy = false;
      this.flow();
    }, ms);
  }
}
