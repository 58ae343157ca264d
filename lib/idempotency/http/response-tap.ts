import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { Logger } from '@nestjs/common';
import { parseWrite, pairsOf } from './raw-response.js';
import { letEnd, putInFront, sayEnded, type Method, type Methods, type Tap } from './tapped-response.js';
import { REPLAYED_HEADERS, type WireResponse } from './wire-response.js';

const logger = new Logger('Idempotent');

/** How a recorded response ended. */
export type Recording =
  { readonly kind: 'complete'; readonly response: WireResponse } | { readonly kind: 'too-large' };

export interface Recorder {
  /** The longest body that is kept, in bytes. A longer one flows to the client as it comes. */
  readonly maxBytes: number;
  /** The response has ended, once; its end goes to the client when this has resolved. */
  ended(recording: Recording): Promise<void>;
  /** Something was written, and the response has not ended. */
  wrote(): void;
}

/**
 * `flow` holds only the end back; `ended` is recorded whole and nothing can change it any more, though its end has not been sent.
 */
type Mode =
  | { readonly kind: 'pass' }
  | { readonly kind: 'record' | 'flow' | 'ended'; readonly recorder: Recorder }
  | { readonly kind: 'replay'; readonly response: WireResponse };

/**
 * Stands between the web framework and one raw response: records what goes over the wire and holds its end back until the recording
 * is kept, or drops what the framework sends and sends a recorded response instead. Until told so, it passes everything on.
 *
 * Taking over the methods of `http.ServerResponse` sees the same on Express and Fastify, whatever serializers, filters, interceptors,
 * `@Res()` or streams produced it. Once taken over they stay so, passing on what is not for the tap: others may have wrapped them since.
 */
export class ResponseTap implements Tap {
  private mode: Mode = { kind: 'pass' };
  private chunks: Buffer[] = [];
  private size = 0;
  private original: Methods | undefined;

  constructor(readonly response: ServerResponse) {}

  /** From here on the response is recorded. */
  record(recorder: Recorder): void {
    this.takeOver();
    this.mode = { kind: 'record', recorder };
  }

  /** From here on the framework's own response is dropped for the recorded one. */
  replay(response: WireResponse): void {
    this.takeOver();
    this.mode = { kind: 'replay', response };
  }

  /** Sends the recorded response now, where the framework sends none by itself. */
  sendReplay(): void {
    if (this.mode.kind === 'replay') this.response.end();
  }

  /** Forgets what was written of a body that has not ended, and has not begun to flow: another one takes its place. */
  discard(): void {
    if (this.mode.kind === 'record') this.reset();
  }

  /** Stops recording. What was held back goes out, and the rest as it comes. */
  pass(): void {
    if (this.mode.kind !== 'record' && this.mode.kind !== 'flow') return;
    this.mode = { kind: 'pass' };
    this.send(() => this.sendHeld());
  }

  /** What was called on the response. */
  call(name: Method, args: unknown[]): unknown {
    const { mode } = this;
    if (mode.kind === 'pass') return this.passOn(name, args);
    if (name === 'end') return this.takeEnd(args);
    if (mode.kind === 'ended') return this.ignore(name, args);
    if (name === 'write') return this.takeWrite(args);
    if (mode.kind !== 'flow' && name === 'writeHead') return this.takeHead(args);
    if (mode.kind !== 'flow' && name === 'flushHeaders') return undefined;
    return this.passOn(name, args);
  }

  private takeOver(): void {
    this.original ??= putInFront(this, this.response);
  }

  private passOn(name: Method, args: unknown[]): unknown {
    return Reflect.apply(this.original![name], this.response, args);
  }

  /** After its end: a response that is out by all it says would fail here, but the caller is no longer heard. */
  private ignore(name: Method, args: unknown[]): unknown {
    if (name !== 'write') return this.response;
    const { callback } = parseWrite(args);
    if (callback) process.nextTick(callback);
    return false;
  }

  /** Notes status and headers where `getHeaders` will find them; they go out with the first byte. */
  private takeHead([status, ...rest]: unknown[]): ServerResponse {
    const { response } = this;
    response.statusCode = status as number;
    if (typeof rest[0] === 'string') response.statusMessage = rest.shift() as string;
    const headers = rest[0] as OutgoingHttpHeaders | unknown[] | undefined;
    if (Array.isArray(headers)) {
      const pairs = pairsOf(headers);
      for (const [name] of pairs) response.removeHeader(name);
      for (const [name, value] of pairs) response.appendHeader(name, value);
    } else {
      for (const [name, value] of Object.entries(headers ?? {}))
        if (value !== undefined) response.setHeader(name, value);
    }
    return response;
  }

  private takeWrite(args: unknown[]): unknown {
    const { mode } = this;
    if (mode.kind === 'record' || mode.kind === 'flow') mode.recorder.wrote();
    if (mode.kind === 'flow') return this.passOn('write', args);
    const { chunk, callback } = parseWrite(args);
    if (chunk && !this.keep(chunk)) return this.passOn('write', [chunk, callback]);
    if (callback) process.nextTick(callback);
    return true;
  }

  /** Whether the chunk was kept; if not, what was kept has been sent, and the chunk is to be. */
  private keep(chunk: Buffer): boolean {
    if (this.mode.kind !== 'record') return true;
    const { recorder } = this.mode;
    this.size += chunk.length;
    if (this.size <= recorder.maxBytes) {
      this.chunks.push(chunk);
      return true;
    }
    this.mode = { kind: 'flow', recorder };
    this.sendHeld();
    return false;
  }

  private takeEnd(args: unknown[]): ServerResponse {
    const { response, mode } = this;
    const { chunk, callback } = parseWrite(args);
    if (callback) response.once('finish', callback);
    if (mode.kind === 'replay') {
      this.mode = { kind: 'pass' };
      this.send(() => this.sendWire(mode.response));
    } else if (mode.kind === 'record' || mode.kind === 'flow') {
      if (chunk && (mode.kind === 'flow' || !this.keep(chunk))) this.passOn('write', [chunk]);
      this.holdEnd(mode.recorder);
    }
    return response;
  }

  private holdEnd(recorder: Recorder): void {
    const { response } = this;
    const { statusCode, statusMessage } = response;
    const whole = this.mode.kind === 'record';
    const body = this.chunks.length === 1 ? this.chunks[0]! : Buffer.concat(this.chunks);
    this.mode = { kind: 'ended', recorder };
    sayEnded(response);

    const recording: Recording = whole
      ? { kind: 'complete', response: { status: statusCode, headers: this.replayedHeaders(), body } }
      : { kind: 'too-large' };
    const release = (): void => {
      this.mode = { kind: 'pass' };
      this.reset();
      this.send(() => {
        letEnd(response);
        // Only where it was changed: a field that is not there yet gives the response another shape.
        if (whole && response.statusCode !== statusCode) response.statusCode = statusCode;
        if (whole && response.statusMessage !== statusMessage) response.statusMessage = statusMessage;
        this.passOn('end', whole && body.length > 0 ? [body] : []);
      });
    };
    recorder.ended(recording).then(release, (error: unknown) => {
      logger.error('A response could not be recorded', error);
      release();
    });
  }

  private sendWire({ status, headers, body }: WireResponse): void {
    const { response } = this;
    response.statusCode = status;
    response.statusMessage = '';
    for (const name of [...REPLAYED_HEADERS, 'content-length', 'transfer-encoding'])
      response.removeHeader(name);
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    if (status !== 204 && status !== 304) response.setHeader('Content-Length', body.length);
    this.passOn('end', [body]);
  }

  /** Nobody is left to tell when Node refuses what is sent late, a status message it cannot write say: the client sees the connection end. */
  private send(write: () => void): void {
    try {
      write();
    } catch (error) {
      logger.error('A response could not be sent', error);
      this.response.destroy();
    }
  }

  private sendHeld(): void {
    const held = this.chunks;
    this.chunks = [];
    for (const chunk of held) this.passOn('write', [chunk]);
  }

  private reset(): void {
    this.chunks = [];
    this.size = 0;
  }

  private replayedHeaders(): WireResponse['headers'] {
    const headers: Record<string, string | string[]> = {};
    for (const name of REPLAYED_HEADERS) {
      const value = this.response.getHeader(name);
      if (value !== undefined) headers[name] = Array.isArray(value) ? value : String(value);
    }
    return headers;
  }
}
