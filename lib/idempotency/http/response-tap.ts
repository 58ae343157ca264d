import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { WireResponse } from './wire-response.js';
import { REPLAYED_HEADERS } from './wire-response.js';

/** How a recorded response ended. */
export type Recording =
  { readonly kind: 'complete'; readonly response: WireResponse } | { readonly kind: 'too-large' | 'aborted' };

type Mode =
  | { readonly kind: 'pass' }
  | {
      readonly kind: 'record';
      readonly maxBytes: number;
      readonly done: (recording: Recording) => Promise<void>;
    }
  | { readonly kind: 'replay'; readonly response: WireResponse };

/** How long a response whose client has gone may still be finished by the handler, before it counts as broken off. */
const ABORT_GRACE_MS = 1_000;

/**
 * Stands between the web framework and one raw response: records what goes over the wire and holds its end back until the recording
 * is kept, or drops what the framework sends and sends a recorded response instead. Until told so, it passes everything on.
 *
 * Taking over `writeHead`, `write` and `end` of `http.ServerResponse` sees the same on Express and Fastify, whatever serializers, filters,
 * interceptors, `@Res()` or streams produced it.
 */
export class ResponseTap {
  private mode: Mode = { kind: 'pass' };
  private chunks: Buffer[] = [];
  private size = 0;
  private ended = false;
  private readonly original: Pick<ServerResponse, 'writeHead' | 'write' | 'end' | 'flushHeaders'>;

  constructor(private readonly response: ServerResponse) {
    this.original = {
      writeHead: response.writeHead.bind(response),
      write: response.write.bind(response),
      end: response.end.bind(response),
      flushHeaders: response.flushHeaders.bind(response),
    };
  }

  /** From here on the response is buffered up to `maxBytes`; `done` is awaited before the client gets its end. */
  record(maxBytes: number, done: (recording: Recording) => Promise<void>): void {
    this.mode = { kind: 'record', maxBytes, done };
    this.takeOver();
    this.response.once('close', () => {
      if (this.ended) return;
      setTimeout(() => this.finish({ kind: 'aborted' }), ABORT_GRACE_MS).unref();
    });
  }

  /** From here on the framework's own response is dropped for the recorded one. */
  replay(response: WireResponse): void {
    this.mode = { kind: 'replay', response };
    this.takeOver();
  }

  /** Sends the recorded response now, where the framework sends none by itself. */
  sendReplay(): void {
    if (this.mode.kind === 'replay' && !this.ended) this.response.end();
  }

  /** Stops recording: the response is nothing to keep. */
  pass(): void {
    this.restore();
    this.mode = { kind: 'pass' };
  }

  private takeOver(): void {
    const { response } = this;
    response.writeHead = (...args: unknown[]) => {
      this.takeHead(args);
      return response;
    };
    response.flushHeaders = () => undefined;
    response.write = ((...args: unknown[]) => this.takeWrite(args)) as ServerResponse['write'];
    response.end = (...args: unknown[]) => this.takeEnd(args);
  }

  private restore(): void {
    Object.assign(this.response, this.original);
  }

  /** Notes status and headers where `getHeaders` will find them; they go out with the first byte. */
  private takeHead([status, ...rest]: unknown[]): void {
    this.response.statusCode = status as number;
    if (typeof rest[0] === 'string') this.response.statusMessage = rest.shift() as string;
    const headers = rest[0] as OutgoingHttpHeaders | unknown[] | undefined;
    const pairs = Array.isArray(headers) ? pairsOf(headers) : Object.entries(headers ?? {});
    for (const [name, value] of pairs) if (value !== undefined) this.response.setHeader(name, value);
  }

  private takeWrite(args: unknown[]): boolean {
    const { chunk, callback } = parseWrite(args);
    if (chunk) this.take(chunk);
    if (callback) process.nextTick(callback);
    return true;
  }

  private take(chunk: Buffer): void {
    if (this.mode.kind !== 'record' || this.ended) return;
    this.chunks.push(chunk);
    this.size += chunk.length;
    if (this.size <= this.mode.maxBytes) return;
    // Too large to keep: let it flow, and hold only its end back.
    const held = this.chunks;
    this.chunks = [];
    this.restore();
    this.response.end = (...args: unknown[]) => this.takeEnd(args);
    for (const one of held) this.response.write(one);
  }

  private takeEnd(args: unknown[]): ServerResponse {
    const { chunk, callback } = parseWrite(args);
    if (callback) this.response.once('finish', callback);
    if (this.mode.kind === 'replay') {
      this.ended = true;
      this.restore();
      sendWire(this.response, this.mode.response);
      return this.response;
    }
    if (chunk) this.take(chunk);
    const tooLarge = this.mode.kind === 'record' && this.size > this.mode.maxBytes;
    this.finish(tooLarge ? { kind: 'too-large' } : { kind: 'complete', response: this.wireResponse() });
    return this.response;
  }

  private finish(recording: Recording): void {
    if (this.mode.kind !== 'record' || this.ended) return;
    this.ended = true;
    const { done } = this.mode;
    void done(recording).finally(() => {
      this.restore();
      if (recording.kind === 'complete') this.response.end(recording.response.body);
      else if (recording.kind === 'too-large') this.response.end();
    });
  }

  private wireResponse(): WireResponse {
    const headers: Record<string, string | string[]> = {};
    for (const name of REPLAYED_HEADERS) {
      const value = this.response.getHeader(name);
      if (value !== undefined) headers[name] = Array.isArray(value) ? value : String(value);
    }
    return { status: this.response.statusCode, headers, body: Buffer.concat(this.chunks) };
  }
}

function sendWire(response: ServerResponse, { status, headers, body }: WireResponse): void {
  response.statusCode = status;
  response.statusMessage = '';
  for (const name of [...REPLAYED_HEADERS, 'content-length', 'transfer-encoding'])
    response.removeHeader(name);
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  response.setHeader('Idempotency-Replayed', 'true');
  if (status !== 204 && status !== 304) response.setHeader('Content-Length', body.length);
  response.end(body);
}

function parseWrite(args: unknown[]): { chunk?: Buffer; callback?: () => void } {
  const callback = args.find((arg) => typeof arg === 'function') as (() => void) | undefined;
  const [chunk, encoding] = args;
  if (typeof chunk === 'string') {
    return {
      chunk: Buffer.from(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8'),
      callback,
    };
  }
  // A copy: its owner may use the memory again once the write is called back.
  return chunk instanceof Uint8Array ? { chunk: Buffer.from(chunk), callback } : { callback };
}

function pairsOf(flat: unknown[]): [string, string][] {
  if (Array.isArray(flat[0])) return flat as [string, string][];
  const pairs: [string, string][] = [];
  for (let i = 0; i + 1 < flat.length; i += 2) pairs.push([flat[i] as string, flat[i + 1] as string]);
  return pairs;
}
