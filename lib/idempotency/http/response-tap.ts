import type { ServerResponse } from 'node:http';
import { Logger } from '@nestjs/common';
import type { TombstoneReason } from '../idempotency.errors.js';
import { headersSentError, parseWrite, writeAfterEndError } from './raw-response.js';
import { LastByte, RecordedBody } from './recorded-body.js';
import type { RecordingBudget } from './recording-budget.js';
import { isHttp2, ResponseHead } from './response-head.js';
import {
  isDouble,
  markBegun,
  markClosed,
  markDrained,
  markEnded,
  markFlowEnded,
  install,
  unmark,
  unmarkFlow,
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
  /** True if bytes go to the client as they come. */
  readonly streams: boolean;
  /** The headers that are recorded, in lower case. */
  readonly replayHeaders: readonly string[];
  /**
   * Returns whether the response is the handler's, or made from what became of it; not another's
   * that came while it ran.
   */
  isOwn(status: number): boolean;
  /** Called when a body goes on. */
  wrote(): void;
  /**
   * Called once, when the response has ended. Its end goes to the client when this has resolved.
   */
  ended(ended: Ended): Promise<void>;
  /**
   * Called once, in place of `ended`, when the response is `taken` by another or `broken`. It
   * passes from then on.
   * @param status the status that the client has, if it has one
   */
  lost(how: 'taken' | 'broken', status: number | undefined): void;
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

/** The parts of a stream, piped into a response, that tell how it ended. */
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
 * Stands between the web framework and one raw response, and holds what goes to the wire until that
 * is recorded and kept.
 *
 * To the application a held response behaves as one that was sent: its head is fixed by the first
 * write, and late headers throw. Below the tap, middleware sees the same calls in the same order,
 * later. While a response is tapped, a client that leaves is kept from the application: writes are
 * acknowledged and `close` waits, so that work does not stop half-way.
 */
export class ResponseTap implements Tap {
  private state: State = 'open';
  private readonly original: Methods;
  private readonly body: RecordedBody;
  private head: ResponseHead | undefined;
  /**
   * Text that came with the end. Node.js sends it together with the head; bytes it would send
   * apart.
   */
  private endText: [text: string, encoding: unknown] | undefined;
  /** Text that was held, by its place among the chunks, where the response must get it as text. */
  private texts: Map<number, unknown[]> | undefined;
  private sources: Source[] | undefined;
  private isGone = false;
  /**
   * The number of held chunks that Node.js would have written by now. It writes at the end of a
   * tick.
   */
  private flushed = 0;
  private isFlushing = false;
  /**
   * Set once the response flows. Its real head is out then, and Node.js itself refuses late
   * headers.
   */
  private flow: LastByte | undefined;

  private constructor(
    private readonly response: ServerResponse,
    private readonly recorder: Recorder,
  ) {
    this.original = install(this, response);
    this.body = new RecordedBody(recorder.maxBytes, recorder.budget);
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
      else if (isHeld) this.sendHeld();
      else if (this.flow?.waiting) this.passOn('write', [this.flow.waiting]);
    });
    this.body.clear();
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
        if (state === 'open' || this.flow) return this.passOn(name, args);
        throw headersSentError(this.isHttp2, REFUSED_VERB[name]!);
    }
  }

  private passOn(name: Method, args: unknown[]): unknown {
    return Reflect.apply(this.original[name], this.response, args);
  }

  private get isHttp2(): boolean {
    return isHttp2(this.response);
  }

  private takeHead(name: 'writeHead' | 'flushHeaders', args: unknown[]): unknown {
    const { response } = this;
    if (this.state === 'flowing') return this.passOn(name, args);
    if (this.state !== 'open') {
      if (name === 'writeHead') throw headersSentError(this.isHttp2, 'write');
      return undefined;
    }
    const head =
      name === 'writeHead' ? ResponseHead.given(response, args) : ResponseHead.implied(response, name);
    // A wrong status is refused to the caller, as it would be without the tap.
    if (!head || !this.begin(head)) return this.passOn(name, args);
    if (name === 'flushHeaders') return undefined;
    response.statusCode = head.status;
    return response;
  }

  /**
   * Fixes the head.
   * @returns false where the call must be passed on: the response flows, or is another's
   */
  private begin(head: ResponseHead): boolean {
    const { response, recorder } = this;
    if (!recorder.isOwn(head.status)) {
      this.giveUp('taken', head.status);
      return false;
    }
    this.head = head;
    if (head.by === 'end') return true;
    if (recorder.streams && !this.isGone && !head.isWhole && this.mayFlow()) {
      head.note(recorder.replayHeaders);
      this.state = 'flowing';
      this.flow = new LastByte(head.length);
      return false;
    }
    this.state = 'begun';
    markBegun(response);
    return true;
  }

  private takeWrite(args: unknown[]): unknown {
    const { callback, chunk } = parseWrite('write', args);
    if (this.state === 'ended') return refuseWrite(callback);
    if (this.state === 'open') {
      const hasBegun = this.begin(ResponseHead.implied(this.response, 'write'));
      if (!hasBegun && !this.flow) return this.passOn('write', args);
    }
    this.recorder.wrote();
    if (chunk && !this.hold(chunk)) return this.sendFlowing(chunk, callback);
    const [text, encoding] = args;
    if (typeof text === 'string' && isDouble(this.response))
      (this.texts ??= new Map<number, unknown[]>()).set(this.body.chunks.length - 1, [text, encoding]);
    this.flushLater();
    if (callback) process.nextTick(callback);
    return true;
  }

  private flushLater(): void {
    if (this.isFlushing) return;
    this.isFlushing = true;
    process.nextTick(() => {
      this.isFlushing = false;
      this.flushed = this.body.chunks.length;
    });
  }

  /**
   * Records a part of the body.
   * @returns whether it was held back; not where the response flows, or does from now on
   */
  private hold(chunk: Buffer): boolean {
    const { body } = this;
    const isRecorded = body.record(chunk);
    if (!this.flow && isRecorded) return true;
    if (!this.flow && this.mayFlow()) this.startFlow();
    if (this.flow) {
      if (!isRecorded) body.clear();
      return false;
    }
    // It can only be held whole.
    if (!this.isGone && !body.hold(chunk)) this.breakOff();
    return true;
  }

  /**
   * Returns whether the client can tell a response that broke off from one that ended: by chunks,
   * by its Content-Length, or by the stream of HTTP/2. Only such a response may flow before it is
   * kept.
   */
  private mayFlow(): boolean {
    if (this.isHttp2) return true;
    const { req } = this.response;
    if (!req || req.httpVersionMajor < 1 || (req.httpVersionMajor === 1 && req.httpVersionMinor < 1))
      return false;
    const { _removedTE: closesAtEnd } = this.response as { _removedTE?: boolean };
    return !closesAtEnd || this.head?.length !== undefined;
  }

  /** Lets a response flow that was held, with what was held of it. */
  private startFlow(): void {
    const { response, head } = this;
    this.state = 'flowing';
    this.flow = new LastByte(head!.length);
    unmark(response);
    if (this.isGone) return;
    this.send(() => head!.send((name, args) => this.passOn(name, args)));
    for (const chunk of this.body.chunks) this.sendFlowing(chunk, undefined);
  }

  private sendFlowing(chunk: Buffer, callback: (() => void) | undefined): unknown {
    const sendable = this.isGone ? undefined : this.flow!.take(chunk);
    // An empty chunk sends the head.
    if (sendable && (sendable.length > 0 || chunk.length === 0))
      return this.passOn('write', [sendable, callback]);
    if (callback) process.nextTick(callback);
    return true;
  }

  private takeEnd(args: unknown[]): unknown {
    const { response } = this;
    if (this.state === 'ended') return response;
    const { chunk, callback } = parseWrite('end', args);
    if (this.state === 'open') {
      if (!this.begin(ResponseHead.implied(response, 'end'))) return this.passOn('end', args);
    } else if (!this.hasSourceEnded && !this.recorder.isOwn(this.head!.status)) {
      this.giveUp('broken', this.head!.status);
      return this.passOn('end', args);
    }
    if (callback) response.once('finish', callback);
    if (chunk && chunk.length > 0) {
      if (!this.flow) {
        const [text, encoding] = args;
        const isText = typeof text === 'string';
        if (isText) this.endText = [text, typeof encoding === 'string' ? encoding : undefined];
        this.body.recordLast(chunk, isText);
      } else if (!this.hold(chunk)) this.sendFlowing(chunk, undefined);
    }
    this.state = 'ended';
    if (this.flow) markFlowEnded(response);
    else markEnded(response);
    const release = (): void => this.release();
    this.recorder.ended(this.ending()).then(release, (error: unknown) => {
      logger.error('A response could not be recorded', error);
      release();
    });
    return response;
  }

  /** True if a stream piped into the response has ended and so ends it, in any context. */
  private get hasSourceEnded(): boolean {
    return this.sources?.some(({ readableEnded }) => readableEnded) === true;
  }

  private ending(): Ended {
    const { head, body, sources } = this;
    const { status, length, hasBody } = head!;
    if (!body.isWhole) return { status, response: undefined, reason: 'too-large' };
    const hasEnded =
      (!sources || sources.every(({ readableEnded, errored }) => readableEnded !== false && !errored)) &&
      (!hasBody || length === undefined || length === body.size);
    const response = hasEnded
      ? { status, headers: head!.headersOf(this.recorder.replayHeaders), body: body.bytes }
      : undefined;
    return { status, response, reason: 'response-failed' };
  }

  private release(): void {
    if (this.state !== 'ended') return;
    this.state = 'passing';
    this.send(() => {
      const { response } = this;
      if (this.flow) unmarkFlow(response);
      else unmark(response);
      if (this.isGone) {
        if (this.isHttp2) this.passOn('end', []);
        else response.finished = true;
        this.passOn('emit', ['finish']);
        this.tellGone();
        return;
      }
      const rest = this.flow ? this.flow.waiting : this.body.last;
      if (!this.flow) this.sendHeld();
      this.passOn('end', this.endText ?? (rest ? [rest] : []));
    });
    this.body.clear();
  }

  /** Lets the response go on without a recording. */
  private giveUp(how: 'taken' | 'broken', status: number): void {
    this.pass();
    this.recorder.lost(how, status);
  }

  private takeDestroy(args: unknown[]): unknown {
    const { state, recorder, response } = this;
    if (state === 'ended') {
      this.release();
      // Without the tap it would have been sent by now, and destroy() would leave its connection
      // alone.
      setImmediate(() => this.passOn('destroy', args));
      return response;
    }
    // Without the tap, HTTP/1 would destroy what was written in this tick with the connection.
    const hasSent = this.isHttp2 || this.flushed > 0 || this.head?.by === 'flushHeaders';
    const isSent = state === 'begun' && !this.isGone && hasSent;
    if (!this.isHttp2) this.body.truncate(this.flushed);
    if (isSent || state !== 'begun') this.pass();
    else this.drop();
    recorder.lost('broken', isSent || this.flow ? this.head?.status : undefined);
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
    this.body.clear();
  }

  private callBroken(name: Method, args: unknown[]): unknown {
    if (name === 'emit' || name === 'destroy') return this.passOn(name, args);
    return name === 'write' ? refuseWrite(parseWrite('write', args).callback) : this.response;
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
    if (this.flow) {
      // A source that waits for the client to read goes on, and a later one does not begin to wait.
      markDrained(this.response);
      process.nextTick(() => this.passOn('emit', ['drain']));
    }
    this.recorder.gone();
  }

  private tellGone(): void {
    markClosed(this.response, true);
    this.passOn('emit', ['close']);
  }

  /**
   * Closes the connection of a response that is too large to hold and may not flow. The work goes
   * on.
   */
  private breakOff(): void {
    this.passOn('destroy', []);
    this.clientGone();
    this.body.clear();
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

  private sendHeld(): void {
    this.head!.send((name, args) => this.passOn(name, args));
    for (const [index, chunk] of this.body.chunks.entries())
      this.passOn('write', this.texts?.get(index) ?? [chunk]);
  }
}

/**
 * Refuses a write after the end. Node.js would emit an error as well, which ends a process that
 * does not listen.
 */
function refuseWrite(callback: ((error: Error) => void) | undefined): false {
  if (callback) process.nextTick(callback, writeAfterEndError());
  return false;
}

/** Returns whether a response has begun or is over, by whomever. */
export const isBegun = (response: ServerResponse): boolean => response.headersSent || response.writableEnded;
