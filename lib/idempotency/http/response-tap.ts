import type { ServerResponse } from 'node:http';
import { Logger } from '@nestjs/common';
import type { TombstoneReason } from '../idempotency.errors.js';
import {
  headersSentError,
  headHeader,
  parseWrite,
  writeAfterEndError,
  type HeadHeaders,
} from './raw-response.js';
import type { RecordingBudget } from './recording-budget.js';
import {
  markBegun,
  markClosed,
  markEnded,
  putInFront,
  unmark,
  type Method,
  type Methods,
  type Tap,
} from './tapped-response.js';
import type { WireResponse } from './wire-response.js';

const logger = new Logger('Idempotent');

/** A response that has ended, as its recorder learns of it. */
export interface Ended {
  readonly status: number;
  /** The response, where it is whole and was recorded. */
  readonly response: WireResponse | undefined;
  /** The reason why it was not. */
  readonly reason: TombstoneReason;
}

/** Decides about a response while it is tapped. */
export interface Recorder {
  /** The longest body that is recorded, in bytes. */
  readonly maxBytes: number;
  readonly budget: RecordingBudget;
  /** Whether bytes go to the client as they come. */
  readonly streams: boolean;
  /** The headers that are recorded, in lower case. */
  readonly replayHeaders: readonly string[];
  /** Returns whether the response is the handler's, or made from what became of it; not another's that came while it ran. */
  isOwn(status: number): boolean;
  /** Called when a body goes on. */
  wrote(): void;
  /** Called once, when the response has ended. Its end goes to the client when this has resolved. */
  ended(ended: Ended): Promise<void>;
  /** Called once, in place of `ended`, when the response is `taken` by another or `broken`. It passes from then on. */
  lost(how: 'taken' | 'broken', status: number): void;
  /** Called when the client has gone. */
  gone(): void;
}

/**
 * | state | head | writes | end |
 * |---|---|---|---|
 * | `passing` | passes | pass | passes |
 * | `open` | not given yet | – | – |
 * | `begun` | held | held | – |
 * | `flowing` | sent | pass, but for the last byte of a Content-Length | – |
 * | `ended` | held, or sent | held, or sent | held until the recorder has kept the response |
 * | `broken` | sent | dropped | dropped: the connection is about to be destroyed |
 */
type State = 'passing' | 'open' | 'begun' | 'flowing' | 'ended' | 'broken';

/** The status line of a response, as it was when the response began. */
interface Head {
  readonly status: number;
  readonly message: string | undefined;
  readonly by: 'writeHead' | 'flushHeaders' | 'write' | 'end';
  /** The arguments of `writeHead`. */
  readonly args: unknown[];
  readonly headers: HeadHeaders;
}

/** What a stream that is piped into a response tells of its end. */
interface Source {
  readonly readableEnded?: boolean;
  readonly errored?: unknown;
}

const REFUSED_VERB: Partial<Record<Method, string>> = {
  writeHead: 'write',
  setHeader: 'set',
  setHeaders: 'set',
  appendHeader: 'append',
  removeHeader: 'remove',
};

/**
 * Stands between the web framework and one raw response, and holds what goes to the wire until that is
 * recorded and kept.
 *
 * To the application a held response behaves as one that was sent: its head is fixed by the first
 * write, and late headers throw. Below the tap, middleware sees the same calls in the same order, later.
 * While a response is tapped, a client that leaves is kept from the application: writes are
 * acknowledged and `close` waits, so that work does not stop half-way.
 */
export class ResponseTap implements Tap {
  private state: State = 'open';
  private readonly original: Methods;
  private head: Head | undefined;
  /** Written parts of the body, less what no recording needs any more; {@link sent} of them have been sent. */
  private chunks: Buffer[] = [];
  private sent = 0;
  private size = 0;
  /** The chunk that came with the end. */
  private endChunk: Buffer | undefined;
  /** Whether all that was written is in {@link chunks}, for the record. */
  private records = true;
  private sources: Source[] | undefined;
  private isGone = false;
  /** The number of held chunks that Node.js would have written by now. It writes at the end of a tick. */
  private flushed = 0;
  private isFlushing = false;
  /** Whether the real head is out, so that Node.js itself refuses late headers. */
  private flows = false;
  /** Of a response that flows: its Content-Length, what was written of it, and what waits for the end. */
  private contentLength: number | undefined;
  private written = 0;
  private lastBytes: Buffer | undefined;
  private constructor(
    readonly response: ServerResponse,
    private readonly recorder: Recorder,
  ) {
    this.original = putInFront(this, response);
    if (response.destroyed) this.clientGone();
  }

  /** Taps the response. @returns undefined where another has begun it: it passes as it is */
  static of(response: ServerResponse, recorder: Recorder): ResponseTap | undefined {
    return isBegun(response) ? undefined : new ResponseTap(response, recorder);
  }

  /** Stops recording. Sends what was held back; the rest passes. */
  pass(): void {
    if (this.state === 'passing' || this.state === 'ended') return;
    const isHeld = this.state === 'begun';
    this.state = 'passing';
    this.send(() => {
      if (isHeld) unmark(this.response);
      if (this.isGone) this.tellGone();
      else if (isHeld) this.sendBegun();
      else if (this.lastBytes) this.passOn('write', [this.lastBytes]);
    });
    this.reset();
  }

  /** Takes a call that was made on the response. */
  call(name: Method, args: unknown[]): unknown {
    const { state } = this;
    if (state === 'passing') return this.passOn(name, args);
    if (state === 'broken') return this.callBroken(name, args);
    switch (name) {
      case 'writeHead':
      case 'flushHeaders':
        return this.takeHead(name, args);
      case 'write':
        return this.takeWrite(args);
      case 'end':
        return this.takeEnd(args);
      case 'emit':
        return this.takeEvent(args);
      case 'destroy':
        return this.takeDestroy(args);
      default:
        if (state === 'open' || this.flows) return this.passOn(name, args);
        throw headersSentError(this.isHttp2, REFUSED_VERB[name]!);
    }
  }

  private passOn(name: Method, args: unknown[]): unknown {
    return Reflect.apply(this.original[name], this.response, args);
  }

  private get isHttp2(): boolean {
    return !Object.hasOwn(this.response, 'finished');
  }

  private takeHead(name: 'writeHead' | 'flushHeaders', args: unknown[]): unknown {
    const { response } = this;
    if (this.state === 'flowing') return this.passOn(name, args);
    if (this.state !== 'open') {
      if (name === 'writeHead') throw headersSentError(this.isHttp2, 'write');
      return undefined;
    }
    if (name === 'flushHeaders') return this.begin(name) ? undefined : this.passOn(name, args);
    const [status, second, third] = args;
    const hasMessage = typeof second === 'string';
    // Node.js refuses it, to the caller, as it would without the tap.
    if (!Number.isInteger(status) || (status as number) < 100 || (status as number) > 999)
      return this.passOn(name, args);
    const began = this.begin(name, {
      by: name,
      status: status as number,
      message: hasMessage || this.isHttp2 ? undefined : response.statusMessage,
      args,
      headers: (hasMessage ? third : second) as HeadHeaders,
    });
    if (!began) return this.passOn(name, args);
    response.statusCode = status as number;
    return response;
  }

  /**
   * Fixes the head.
   * @returns false where the call must be passed on: the response flows, or is another's
   */
  private begin(by: Head['by'], given?: Head): boolean {
    const { response, recorder } = this;
    const head: Head = given ?? {
      by,
      status: response.statusCode,
      message: this.isHttp2 ? undefined : response.statusMessage,
      args: NO_ARGUMENTS,
      headers: undefined,
    };
    if (!recorder.isOwn(head.status)) {
      this.giveUp('taken', head.status);
      return false;
    }
    this.head = head;
    if (by === 'end') return true;
    if (recorder.streams && this.mayFlow()) {
      this.startFlow();
      return false;
    }
    this.state = 'begun';
    markBegun(response);
    return true;
  }

  private takeWrite(args: unknown[]): unknown {
    const { callback, chunk } = parseWrite(args);
    if (this.state === 'ended') {
      if (callback) process.nextTick(callback, writeAfterEndError());
      return false;
    }
    if (this.state === 'open' && !this.begin('write') && !this.isFlowing()) return this.passOn('write', args);
    this.recorder.wrote();
    if (chunk && !this.hold(chunk)) return this.flow(chunk, callback);
    this.flushLater();
    if (callback) process.nextTick(callback);
    return true;
  }

  private flushLater(): void {
    if (this.isFlushing) return;
    this.isFlushing = true;
    process.nextTick(() => {
      this.isFlushing = false;
      this.flushed = this.chunks.length;
    });
  }

  private isFlowing(): boolean {
    return this.state === 'flowing';
  }

  /** Records a part of the body, and holds it back where the response does not flow. @returns whether it was held back */
  private hold(chunk: Buffer): boolean {
    const { recorder } = this;
    if (this.records) {
      this.records =
        this.size + chunk.length <= recorder.maxBytes && recorder.budget.take(chunk.length) && this.add(chunk);
      if (this.records && !this.isFlowing()) return true;
    }
    if (this.isFlowing()) {
      if (this.records) this.sent++;
      else this.reset();
      return false;
    }
    if (this.mayFlow()) {
      this.startFlow();
      this.reset();
      return false;
    }
    // A response that can only be held whole.
    if (this.isGone || (recorder.budget.take(chunk.length) && this.add(chunk))) return true;
    this.breakOff();
    return true;
  }

  /** Adds a copy: the owner of the chunk may use its memory again. */
  private add(chunk: Buffer): true {
    this.chunks.push(Buffer.from(chunk));
    this.size += chunk.length;
    return true;
  }

  /**
   * Returns whether the client can tell a response that broke off from one that ended: by chunks, by its
   * Content-Length, or by the stream of HTTP/2. Only such a response may flow before it is kept.
   */
  private mayFlow(): boolean {
    if (this.isHttp2) return true;
    const { req } = this.response;
    if (!req || req.httpVersionMajor < 1 || (req.httpVersionMajor === 1 && req.httpVersionMinor < 1)) return false;
    const { _removedTE: closesAtEnd } = this.response as { _removedTE?: boolean };
    return !closesAtEnd || this.lengthOf(this.head) !== undefined;
  }

  private startFlow(): void {
    const held = this.state === 'begun';
    this.state = 'flowing';
    this.flows = true;
    if (held) unmark(this.response);
    this.contentLength = this.lengthOf(this.head);
    if (this.isGone) return;
    // The call that begins a response passes by itself.
    if (!held) return;
    const chunks = this.chunks;
    this.chunks = [];
    this.send(() => this.sendHead());
    for (const chunk of chunks) this.flow(chunk, undefined);
    this.chunks = chunks;
    this.sent = chunks.length;
  }

  /** Sends a part of the body. The last byte of a known length waits for the end, since it ends the response to the client. */
  private flow(chunk: Buffer, callback: (() => void) | undefined): unknown {
    if (this.isGone) {
      if (callback) process.nextTick(callback);
      return true;
    }
    const left = this.contentLength === undefined ? Infinity : this.contentLength - this.written;
    this.written += chunk.length;
    if (chunk.length < left) return this.passOn('write', [chunk, callback]);
    const sendable = Math.max(left - 1, 0);
    const waiting = Buffer.from(chunk.subarray(sendable));
    this.lastBytes = this.lastBytes ? Buffer.concat([this.lastBytes, waiting]) : waiting;
    if (sendable > 0) return this.passOn('write', [chunk.subarray(0, sendable), callback]);
    if (callback) process.nextTick(callback);
    return true;
  }

  private takeEnd(args: unknown[]): unknown {
    const { response } = this;
    if (this.state === 'ended') return response;
    const { chunk, callback } = parseWrite(args);
    if (this.state === 'open') {
      if (!this.begin('end')) return this.passOn('end', args);
    } else if (!this.recorder.isOwn(this.head!.status)) {
      this.giveUp('broken', this.head!.status);
      return this.passOn('end', args);
    }
    if (callback) response.once('finish', callback);
    if (chunk && chunk.length > 0) this.takeEndChunk(chunk);
    this.state = 'ended';
    markEnded(response);
    const release = (): void => this.release();
    this.recorder.ended(this.ending()).then(release, (error: unknown) => {
      logger.error('A response could not be recorded', error);
      release();
    });
    return response;
  }

  private takeEndChunk(chunk: Buffer): void {
    if (this.isFlowing()) {
      if (!this.hold(chunk)) this.flow(chunk, undefined);
      return;
    }
    const { maxBytes, budget } = this.recorder;
    this.records &&= this.size + chunk.length <= maxBytes && budget.take(chunk.length);
    if (this.records) this.size += chunk.length;
    // Not a copy where it is not recorded: it was made, and goes out in a moment.
    this.endChunk = this.records ? Buffer.from(chunk) : chunk;
  }

  private ending(): Ended {
    const { status } = this.head!;
    const length = this.lengthOf(this.head);
    const hasBody = status !== 204 && status !== 304 && this.response.req?.method !== 'HEAD';
    if (!this.records) return { status, response: undefined, reason: 'too-large' };
    const isWhole =
      (this.sources ?? []).every(({ readableEnded, errored }) => readableEnded !== false && !errored) &&
      (!hasBody || length === undefined || length === this.size);
    if (!isWhole) return { status, response: undefined, reason: 'response-failed' };
    const parts = this.endChunk ? [...this.chunks, this.endChunk] : this.chunks;
    const body = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
    return { status, response: { status, headers: this.recordedHeaders(), body }, reason: 'response-failed' };
  }

  private release(): void {
    if (this.state !== 'ended') return;
    this.state = 'passing';
    this.send(() => {
      const { response } = this;
      unmark(response);
      if (this.isGone) {
        if (this.isHttp2) this.passOn('end', NO_ARGUMENTS);
        else response.finished = true;
        this.passOn('emit', ['finish']);
        this.tellGone();
        return;
      }
      const rest = this.lastBytes ?? this.endChunk;
      if (!this.flows) this.sendBegun();
      this.passOn('end', rest ? [rest] : NO_ARGUMENTS);
    });
    this.reset();
  }

  /** Lets the response go on without a recording. */
  private giveUp(how: 'taken' | 'broken', status: number): void {
    this.pass();
    this.recorder.lost(how, status);
  }

  private takeDestroy(args: unknown[]): unknown {
    const { state, recorder, response } = this;
    const status = this.head?.status ?? response.statusCode;
    if (state === 'ended') {
      this.release();
      return this.passOn('destroy', args);
    }
    // Without the tap, HTTP/1 would destroy what was written in this tick with the connection.
    const hasSent = this.isHttp2 || this.flushed > 0 || this.head?.by === 'flushHeaders';
    const isSent = state === 'begun' && !this.isGone && hasSent;
    if (!this.isHttp2) this.chunks.length = Math.min(this.chunks.length, this.flushed);
    if (isSent || state !== 'begun') this.pass();
    else this.drop();
    recorder.lost('broken', status);
    if (!isSent) return this.passOn('destroy', args);
    this.state = 'broken';
    const destroy = (): unknown => this.passOn('destroy', args);
    if (this.isHttp2) setImmediate(destroy);
    else process.nextTick(destroy);
    return response;
  }

  /** Lets the response pass without what was held. */
  private drop(): void {
    this.state = 'passing';
    unmark(this.response);
    if (this.isGone) this.tellGone();
    this.reset();
  }

  private callBroken(name: Method, args: unknown[]): unknown {
    if (name === 'emit' || name === 'destroy') return this.passOn(name, args);
    if (name !== 'write') return this.response;
    const { callback } = parseWrite(args);
    if (callback) process.nextTick(callback, writeAfterEndError());
    return false;
  }

  private takeEvent(args: unknown[]): unknown {
    const [event, source] = args;
    if (event === 'pipe') (this.sources ??= []).push(source as Source);
    // Nothing has finished yet: the connection has closed.
    else if (event === 'close' || event === 'finish') {
      if (this.isGone) markClosed(this.response, false);
      else this.clientGone();
      return true;
    }
    return this.passOn('emit', args);
  }

  private clientGone(): void {
    this.isGone = true;
    markClosed(this.response, false);
    // A source that waits for the client to read goes on.
    if (this.isFlowing()) process.nextTick(() => this.passOn('emit', ['drain']));
    this.recorder.gone();
  }

  private tellGone(): void {
    markClosed(this.response, true);
    this.passOn('emit', ['close']);
  }

  /** Closes the connection of a response that is too large to hold and may not flow. The work goes on. */
  private breakOff(): void {
    this.passOn('destroy', NO_ARGUMENTS);
    this.clientGone();
    this.reset();
  }

  /** A late write that Node.js refuses can only close the connection: the caller has returned. */
  private send(write: () => void): void {
    try {
      write();
    } catch (error) {
      logger.error('A response could not be sent', error);
      this.response.destroy();
    }
  }

  private sendBegun(): void {
    if (this.head) this.sendHead();
    for (; this.sent < this.chunks.length; this.sent++) this.passOn('write', [this.chunks[this.sent]]);
  }

  private sendHead(): void {
    const { response } = this;
    const { by, status, message, args } = this.head!;
    // Only where it was changed: a field that is not there yet gives the response another shape.
    if (response.statusCode !== status) response.statusCode = status;
    if (!this.isHttp2 && response.statusMessage !== message) response.statusMessage = message!;
    if (by === 'writeHead' || by === 'flushHeaders') this.passOn(by, args);
  }

  private reset(): void {
    if (this.size > 0) this.recorder.budget.give(this.size);
    this.chunks = [];
    this.sent = 0;
    this.size = 0;
  }

  private header(name: string): number | string | string[] | undefined {
    return headHeader(this.head?.headers, name) ?? this.response.getHeader(name);
  }

  private lengthOf(head: Head | undefined): number | undefined {
    const length = headHeader(head?.headers, 'content-length') ?? this.response.getHeader('content-length');
    return length === undefined ? undefined : Number(length);
  }

  private recordedHeaders(): WireResponse['headers'] {
    const headers: Record<string, string | string[]> = {};
    for (const name of this.recorder.replayHeaders) {
      const value = this.header(name);
      if (value !== undefined) headers[name] = Array.isArray(value) ? value : String(value);
    }
    return headers;
  }
}

const NO_ARGUMENTS: unknown[] = [];

/** Returns whether a response has begun or is over, by whomever. */
export const isBegun = (response: ServerResponse): boolean => response.headersSent || response.writableEnded;
