import type { ServerResponse } from 'node:http';
import { Logger } from '@nestjs/common';
import { LastByte, RecordedBody } from './recorded-body.js';
import { isHttp2, type ResponseHead } from './response-head.js';
import type { Ended, Recorder } from './response-recorder.js';
import {
  isDouble,
  markClosed,
  markDrained,
  install,
  unmark,
  type Method,
  type Methods,
  type Tap,
} from './tapped-response.js';

const logger = new Logger('Idempotent');

/** The parts of a stream, piped into a response, that tell how it ended. */
interface Source {
  readonly readableEnded?: boolean;
  readonly errored?: unknown;
}

/**
 * The side of a tapped response towards its client: what is held of it, what has been sent, and
 * whether the client is there yet.
 */
export class HeldResponse {
  readonly body: RecordedBody;
  /** Set once the response has begun. */
  head: ResponseHead | undefined;
  /**
   * Set once the response flows. Its real head is out then, and Node.js itself refuses late
   * headers.
   */
  flow: LastByte | undefined;
  /** True once the client has left. */
  isGone = false;
  /**
   * The number of held chunks that Node.js would have written by now. It writes at the end of a
   * tick.
   */
  private flushed = 0;
  private isFlushing = false;
  /**
   * Text that came with the end. Node.js sends it together with the head; bytes it would send
   * apart.
   */
  private endText: [text: string, encoding: unknown] | undefined;
  /** Text that was held, by its place among the chunks, where the response must get it as text. */
  private texts: Map<number, unknown[]> | undefined;
  private sources: Source[] | undefined;
  private readonly original: Methods;

  constructor(
    tap: Tap,
    private readonly response: ServerResponse,
    { maxBytes, budget }: Recorder,
  ) {
    this.original = install(tap, response);
    this.body = new RecordedBody(maxBytes, budget);
  }

  /** Calls the response itself. */
  passOn(name: Method, args: unknown[]): unknown {
    return Reflect.apply(this.original[name], this.response, args);
  }

  get isHttp2(): boolean {
    return isHttp2(this.response);
  }

  /**
   * True if the client can tell a response that broke off from one that ended: by chunks, by its
   * Content-Length, or by the stream of HTTP/2. Only such a response may flow before it is kept.
   */
  get mayFlow(): boolean {
    if (this.isHttp2) return true;
    const { req } = this.response;
    if (!req || req.httpVersionMajor < 1 || (req.httpVersionMajor === 1 && req.httpVersionMinor < 1))
      return false;
    const { _removedTE: closesAtEnd } = this.response as { _removedTE?: boolean };
    return !closesAtEnd || this.head?.length !== undefined;
  }

  /** True if Node.js would have sent a part of it by now. */
  get wouldBeSent(): boolean {
    return this.isHttp2 || this.flushed > 0 || this.head?.by === 'flushHeaders';
  }

  /** Notes a stream that is piped into the response. */
  addSource(source: unknown): void {
    (this.sources ??= []).push(source as Source);
  }

  /** True if a stream piped into the response has ended and so ends it, in any context. */
  get hasSourceEnded(): boolean {
    return this.sources?.some(({ readableEnded }) => readableEnded) === true;
  }

  /** Notes a chunk that is held, as the arguments of `write` had it. */
  wrote([text, encoding]: unknown[]): void {
    if (typeof text === 'string' && isDouble(this.response))
      (this.texts ??= new Map<number, unknown[]>()).set(this.body.chunks.length - 1, [text, encoding]);
    if (this.isFlushing) return;
    this.isFlushing = true;
    process.nextTick(() => {
      this.isFlushing = false;
      this.flushed = this.body.chunks.length;
    });
  }

  /** Holds the chunk that came with the end, as the arguments of `end` had it. */
  holdLast(chunk: Buffer, [text, encoding]: unknown[]): void {
    const isText = typeof text === 'string';
    if (isText) this.endText = [text, typeof encoding === 'string' ? encoding : undefined];
    this.body.recordLast(chunk, isText);
  }

  /** Forgets what HTTP/1 would destroy with the connection: what was written in this tick. */
  forgetUnflushed(): void {
    if (!this.isHttp2) this.body.truncate(this.flushed);
  }

  /** Lets a response flow that was held, with what was held of it. */
  startFlow(): void {
    const { head } = this;
    this.flow = new LastByte(head!.length);
    unmark(this.response);
    if (this.isGone) return;
    this.send(() => head!.send((name, args) => this.passOn(name, args)));
    for (const chunk of this.body.chunks) this.sendFlowing(chunk, undefined);
  }

  /** Sends a chunk of a response that flows. @returns what `write` returns */
  sendFlowing(chunk: Buffer, callback: (() => void) | undefined): unknown {
    const sendable = this.isGone ? undefined : this.flow!.take(chunk);
    // An empty chunk sends the head.
    if (sendable && (sendable.length > 0 || chunk.length === 0))
      return this.passOn('write', [sendable, callback]);
    if (callback) process.nextTick(callback);
    return true;
  }

  /** Sends head and chunks that were held. */
  sendHeld(): void {
    this.head!.send((name, args) => this.passOn(name, args));
    for (const [index, chunk] of this.body.chunks.entries())
      this.passOn('write', this.texts?.get(index) ?? [chunk]);
  }

  /** Sends what is left of a response that has ended. */
  sendEnd(): void {
    const rest = this.flow ? this.flow.waiting : this.body.last;
    if (!this.flow) this.sendHeld();
    this.passOn('end', this.endText ?? (rest ? [rest] : []));
  }

  /** Ends a response whose client has left. */
  endUnsent(): void {
    if (this.isHttp2) this.passOn('end', []);
    else this.response.finished = true;
    this.passOn('emit', ['finish']);
    this.tellGone();
  }

  /** Notes that the client has left, and keeps it from the application. */
  noteGone(): void {
    this.isGone = true;
    markClosed(this.response, false);
    if (!this.flow) return;
    // A source that waits for the client to read continues, and a later one does not begin to
    // wait.
    markDrained(this.response);
    process.nextTick(() => this.passOn('emit', ['drain']));
  }

  /** Tells the application that the client has left. */
  tellGone(): void {
    markClosed(this.response, true);
    this.passOn('emit', ['close']);
  }

  /** A late write that Node.js refuses can only close the connection: the caller has returned. */
  send(write: () => void): void {
    try {
      write();
    } catch (error) {
      logger.error('A response could not be sent', error);
      this.response.destroy();
    }
  }

  /** Returns the response as it ended, for its recorder. */
  ended(replayHeaders: readonly string[]): Ended {
    const { head, body, sources } = this;
    const { status, length, hasBody } = head!;
    if (!body.isWhole) return { status, response: undefined, reason: 'too-large' };
    const hasEnded =
      (!sources || sources.every(({ readableEnded, errored }) => readableEnded !== false && !errored)) &&
      (!hasBody || length === undefined || length === body.size);
    const response = hasEnded
      ? { status, headers: head!.headersOf(replayHeaders), body: body.bytes }
      : undefined;
    return { status, response, reason: 'response-failed' };
  }
}
