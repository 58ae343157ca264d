import type { RecordingBudget } from './recording-budget.js';

/** The body of one response, as far as it is recorded or held back. */
export class RecordedBody {
  /** Copies: the owner of a chunk may use its memory again. */
  readonly chunks: Buffer[] = [];
  /** The chunk that came with the end. */
  last: Buffer | undefined;
  /** True while all written bytes are here, within the limit of a record. */
  isWhole = true;
  private reserved = 0;

  /** @param maxBytes the longest body that is recorded, in bytes */
  constructor(
    private readonly maxBytes: number,
    private readonly budget: RecordingBudget,
  ) {}

  /** The length of what is held, in bytes. */
  get size(): number {
    return this.reserved;
  }

  /** Adds a chunk to the record. @returns whether the record is whole yet */
  record(chunk: Buffer): boolean {
    this.isWhole &&= this.reserved + chunk.length <= this.maxBytes && this.hold(chunk);
    return this.isWhole;
  }

  /** Keeps a chunk, which a record need not have. @returns false where the budget is used up */
  hold(chunk: Buffer): boolean {
    if (!this.reserve(chunk)) return false;
    this.chunks.push(Buffer.from(chunk));
    return true;
  }

  /**
   * Adds the chunk that came with the end. If it is not recorded, it is not copied: it is sent at
   * once.
   * @param isOwn true if no other code has its memory
   */
  recordLast(chunk: Buffer, isOwn: boolean): void {
    this.isWhole &&= this.reserved + chunk.length <= this.maxBytes && this.reserve(chunk);
    this.last = this.isWhole && !isOwn ? Buffer.from(chunk) : chunk;
  }

  /** The whole body. */
  get bytes(): Buffer {
    const { chunks, last } = this;
    const parts = last ? [...chunks, last] : chunks;
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  }

  /** Forgets all chunks but the first `count`. */
  truncate(count: number): void {
    this.chunks.length = Math.min(this.chunks.length, count);
  }

  /** Gives the memory back. */
  clear(): void {
    if (this.reserved > 0) this.budget.give(this.reserved);
    this.reserved = 0;
    this.chunks.length = 0;
    this.last = undefined;
  }

  private reserve(chunk: Buffer): boolean {
    if (!this.budget.take(chunk.length)) return false;
    this.reserved += chunk.length;
    return true;
  }
}

/**
 * Holds back the last byte of a body whose length the client knows. With it the client would take
 * the response for whole.
 */
export class LastByte {
  private written = 0;
  /** The bytes that wait for the end. */
  waiting: Buffer | undefined;

  /** @param length the Content-Length; undefined where the end has a mark of its own */
  constructor(private readonly length: number | undefined) {}

  /** @returns the part of a chunk that may be sent */
  take(chunk: Buffer): Buffer {
    if (this.length === undefined) return chunk;
    const sendable = Math.max(this.length - this.written - 1, 0);
    this.written += chunk.length;
    if (chunk.length <= sendable) return chunk;
    const rest = Buffer.from(chunk.subarray(sendable));
    this.waiting = this.waiting ? Buffer.concat([this.waiting, rest]) : rest;
    return chunk.subarray(0, sendable);
  }
}
