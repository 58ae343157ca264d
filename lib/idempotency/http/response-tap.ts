import type { ServerResponse } from 'node:http';
import { Logger } from '@nestjs/common';
import { HeldResponse } from './held-response.js';
import { headersSentError, isBegun, parseWrite, refuseWrite } from './raw-response.js';
import { LastByte } from './recorded-body.js';
import { ResponseHead } from './response-head.js';
import type { Recorder } from './response-recorder.js';
import {
  markBegun,
  markClosed,
  markEnded,
  markFlowEnded,
  unmark,
  unmarkFlow,
  type Method,
  type Tap,
} from './tapped-response.js';

const logger = new Logger('Idempotent');

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

const REFUSED_VERB: Partial<Record<Method, string>> = {
  writeHead: 'write',
  setHeader: 'set',
  setHeaders: 'set',
  appendHeader: 'append',
  removeHeader: 'remove',
};

/**
 * Stands between the web framework and one raw response, and holds what goes to the wire until that
 * is recorded and kept. Takes the calls of the application; `HeldResponse` is the side towards the
 * client.
 *
 * To the application a held response behaves as one that was sent: its head is fixed by the first
 * write, and late headers throw. Below the tap, middleware sees the same calls in the same order,
 * later. While a response is tapped, a client that leaves is kept from the application: writes are
 * acknowledged and `close` waits, so that work does not stop half-way.
 */
export class ResponseTap implements Tap {
  private state: State = 'open';
  private readonly held: HeldResponse;

  private constructor(
    private readonly response: ServerResponse,
    private readonly recorder: Recorder,
  ) {
    this.held = new HeldResponse(this, response, recorder);
    if (response.destroyed) this.clientGone();
  }

  /** Taps the response. @returns undefined where another has begun it: it passes as it is */
  static of(response: ServerResponse, recorder: Recorder): ResponseTap | undefined {
    return isBegun(response) ? undefined : new ResponseTap(response, recorder);
  }

  /** Stops recording. Sends what was held back; the rest passes. */
  pass(): void {
    if (this.state === 'passing' || this.state === 'ended') return;
    const { held } = this;
    const isHeld = this.state === 'begun';
    this.state = 'passing';
    held.send(() => {
      if (isHeld) unmark(this.response);
      if (held.isGone) held.tellGone();
      else if (isHeld) held.sendHeld();
      else if (held.flow?.waiting) held.passOn('write', [held.flow.waiting]);
    });
    held.body.clear();
  }

  /** Takes a call that was made on the response. */
  call(name: Method, args: unknown[]): unknown {
    const { state, held } = this;
    if (state === 'passing') return held.passOn(name, args);
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
        if (state === 'open' || held.flow) return held.passOn(name, args);
        throw headersSentError(held.isHttp2, REFUSED_VERB[name]!);
    }
  }

  private takeHead(name: 'writeHead' | 'flushHeaders', args: unknown[]): unknown {
    const { response, held } = this;
    if (this.state === 'flowing') return held.passOn(name, args);
    if (this.state !== 'open') {
      if (name === 'writeHead') throw headersSentError(held.isHttp2, 'write');
      return undefined;
    }
    const head =
      name === 'writeHead' ? ResponseHead.given(response, args) : ResponseHead.implied(response, name);
    // A wrong status is refused to the caller, as it would be without the tap.
    if (!head || !this.begin(head)) return held.passOn(name, args);
    if (name === 'flushHeaders') return undefined;
    response.statusCode = head.status;
    return response;
  }

  /**
   * Fixes the head.
   * @returns false where the call must be passed on: the response flows, or is another's
   */
  private begin(head: ResponseHead): boolean {
    const { response, recorder, held } = this;
    if (!recorder.isOwn(head.status)) {
      this.giveUp('taken', head.status);
      return false;
    }
    held.head = head;
    if (head.by === 'end') return true;
    if (recorder.streams && !held.isGone && !head.isWhole && held.mayFlow) {
      head.note(recorder.replayHeaders);
      this.state = 'flowing';
      held.flow = new LastByte(head.length);
      return false;
    }
    this.state = 'begun';
    markBegun(response);
    return true;
  }

  private takeWrite(args: unknown[]): unknown {
    const { callback, chunk } = parseWrite('write', args);
    if (this.state === 'ended') return refuseWrite(callback);
    const { held } = this;
    if (this.state === 'open') {
      const hasBegun = this.begin(ResponseHead.implied(this.response, 'write'));
      if (!hasBegun && !held.flow) return held.passOn('write', args);
    }
    this.recorder.wrote();
    if (chunk && !this.hold(chunk)) return held.sendFlowing(chunk, callback);
    held.wrote(args);
    if (callback) process.nextTick(callback);
    return true;
  }

  /**
   * Records a part of the body.
   * @returns whether it was held back; not where the response flows, or does from now on
   */
  private hold(chunk: Buffer): boolean {
    const { held } = this;
    const { body } = held;
    const isRecorded = body.record(chunk);
    if (!held.flow && isRecorded) return true;
    if (!held.flow && held.mayFlow) {
      this.state = 'flowing';
      held.startFlow();
    }
    if (held.flow) {
      if (!isRecorded) body.clear();
      return false;
    }
    // It can only be held whole.
    if (!held.isGone && !body.hold(chunk)) this.breakOff();
    return true;
  }

  private takeEnd(args: unknown[]): unknown {
    const { response, held } = this;
    if (this.state === 'ended') return response;
    const { chunk, callback } = parseWrite('end', args);
    if (this.state === 'open') {
      if (!this.begin(ResponseHead.implied(response, 'end'))) return held.passOn('end', args);
    } else if (!held.hasSourceEnded && !this.recorder.isOwn(held.head!.status)) {
      this.giveUp('broken', held.head!.status);
      return held.passOn('end', args);
    }
    if (callback) response.once('finish', callback);
    if (chunk && chunk.length > 0) {
      if (!held.flow) held.holdLast(chunk, args);
      else if (!this.hold(chunk)) held.sendFlowing(chunk, undefined);
    }
    this.state = 'ended';
    if (held.flow) markFlowEnded(response);
    else markEnded(response);
    const release = (): void => this.release();
    this.recorder.ended(held.ended(this.recorder.replayHeaders)).then(release, (error: unknown) => {
      logger.error('A response could not be recorded', error);
      release();
    });
    return response;
  }

  private release(): void {
    if (this.state !== 'ended') return;
    this.state = 'passing';
    const { held, response } = this;
    held.send(() => {
      if (held.flow) unmarkFlow(response);
      else unmark(response);
      if (held.isGone) held.endUnsent();
      else held.sendEnd();
    });
    held.body.clear();
  }

  /** Lets the response continue without a recording. */
  private giveUp(how: 'taken' | 'broken', status: number): void {
    this.pass();
    this.recorder.lost(how, status);
  }

  private takeDestroy(args: unknown[]): unknown {
    const { state, recorder, response, held } = this;
    const destroy = (): unknown => held.passOn('destroy', args);
    if (state === 'ended') {
      this.release();
      // Without the tap it would have been sent by now, and destroy() would leave its connection
      // alone.
      setImmediate(destroy);
      return response;
    }
    const isSent = state === 'begun' && !held.isGone && held.wouldBeSent;
    held.forgetUnflushed();
    if (isSent || state !== 'begun') this.pass();
    else this.drop();
    recorder.lost('broken', isSent || held.flow ? held.head?.status : undefined);
    if (!isSent) return destroy();
    this.state = 'broken';
    if (held.isHttp2) setImmediate(destroy);
    else process.nextTick(destroy);
    return response;
  }

  /** Lets the response pass without what was held. */
  private drop(): void {
    const { held } = this;
    this.state = 'passing';
    unmark(this.response);
    if (held.isGone) held.tellGone();
    held.body.clear();
  }

  private callBroken(name: Method, args: unknown[]): unknown {
    if (name === 'emit' || name === 'destroy') return this.held.passOn(name, args);
    return name === 'write' ? refuseWrite(parseWrite('write', args).callback) : this.response;
  }

  private takeEvent(args: unknown[]): unknown {
    const [event, source] = args;
    if (event === 'pipe') this.held.addSource(source);
    // Nothing has finished yet: the connection has closed.
    else if (event === 'close' || event === 'finish') {
      if (this.held.isGone) markClosed(this.response, false);
      else this.clientGone();
      return true;
    }
    return this.held.passOn('emit', args);
  }

  private clientGone(): void {
    this.held.noteGone();
    this.recorder.gone();
  }

  /**
   * Closes the connection of a response that is too large to hold and may not flow. The work
   * continues.
   */
  private breakOff(): void {
    this.held.passOn('destroy', []);
    this.clientGone();
    this.held.body.clear();
  }
}
