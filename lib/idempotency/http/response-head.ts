import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { pairsOf } from './raw-response.js';
import type { WireResponse } from './wire-response.js';

/** The headers that `writeHead` was given: an object, pairs, or names and values in turn. */
export type HeadHeaders = OutgoingHttpHeaders | unknown[] | undefined;

type HeaderValue = number | string | string[] | undefined;
type Headers = Map<string, HeaderValue>;

/** Finds the headers among the arguments of `writeHead` behind the status, as Node.js does. */
export const headersGiven = (second: unknown, third: unknown): HeadHeaders =>
  (typeof second === 'string' ? third : (third ?? second)) as HeadHeaders;

/** HTTP/2 has no status message, and warns where one is read or set. */
export const isHttp2 = (response: ServerResponse): boolean => !Object.hasOwn(response, 'finished');

/** The status line and headers of a response, as they were when it began. */
export class ResponseHead {
  /** Set by {@link note}. */
  private noted:
    { readonly length: number | undefined; readonly headers: WireResponse['headers'] } | undefined;

  private constructor(
    private readonly response: ServerResponse,
    readonly by: 'writeHead' | 'flushHeaders' | 'write' | 'end',
    readonly status: number,
    private readonly message: string | undefined,
    /** The arguments of `writeHead`. */
    private readonly args: unknown[],
    /** Its headers, by their names in lower case. */
    private readonly headers: Headers | undefined,
  ) {}

  /** The head that Node.js makes by itself. */
  static implied(response: ServerResponse, by: 'flushHeaders' | 'write' | 'end'): ResponseHead {
    const message = isHttp2(response) ? undefined : response.statusMessage;
    return new ResponseHead(response, by, response.statusCode, message, [], undefined);
  }

  /** The head of a `writeHead`. @returns undefined for a status that Node.js refuses */
  static given(response: ServerResponse, args: unknown[]): ResponseHead | undefined {
    const [status, second, third] = args;
    if (!Number.isInteger(status) || (status as number) < 100 || (status as number) > 999) return undefined;
    const hasMessage = typeof second === 'string';
    const message = hasMessage || isHttp2(response) ? undefined : response.statusMessage;
    const headers = copyOf(headersGiven(second, third));
    const copied = hasMessage ? [status, second, headers] : [status, headers];
    return new ResponseHead(response, 'writeHead', status as number, message, copied, inLowerCase(headers));
  }

  /**
   * Fixes the length and the headers of these names as they are now. Middleware below, such as
   * compression, changes them once the head is sent, but gets the same body as the record.
   */
  note(names: readonly string[]): void {
    this.noted = { length: this.length, headers: this.headersOf(names) };
  }

  /** The Content-Length. */
  get length(): number | undefined {
    if (this.noted) return this.noted.length;
    const length = this.header('content-length');
    return length === undefined ? undefined : Number(length);
  }

  get hasBody(): boolean {
    return this.status !== 204 && this.status !== 304 && this.response.req?.method !== 'HEAD';
  }

  /** True if the head alone tells the client that the response is complete. */
  get isWhole(): boolean {
    return !this.hasBody || this.length === 0;
  }

  /** Returns the headers of these names, given in lower case. */
  headersOf(names: readonly string[]): WireResponse['headers'] {
    if (this.noted) return this.noted.headers;
    const headers: Record<string, string | string[]> = {};
    for (const name of names) {
      const value = this.header(name);
      if (value !== undefined) headers[name] = Array.isArray(value) ? value : String(value);
    }
    return headers;
  }

  /** Makes the head what it was, whatever was set since. @param passOn calls the response itself */
  send(passOn: (name: 'writeHead' | 'flushHeaders', args: unknown[]) => unknown): void {
    const { response, by, status, message, args } = this;
    // Only where it was changed: a field that is not there yet gives the response another shape.
    if (response.statusCode !== status) response.statusCode = status;
    if (!isHttp2(response) && response.statusMessage !== message) response.statusMessage = message!;
    if (by === 'writeHead' || by === 'flushHeaders') passOn(by, args);
  }

  private header(name: string): HeaderValue {
    return this.headers?.get(name) ?? this.response.getHeader(name);
  }
}

/** Copies headers: a framework may still use the object that it passed. */
function copyOf(headers: HeadHeaders): HeadHeaders {
  if (!headers || Array.isArray(headers)) return headers?.slice();
  const copy: OutgoingHttpHeaders = {};
  for (const name of Object.keys(headers)) {
    const value = headers[name];
    copy[name] = Array.isArray(value) ? [...value] : value;
  }
  return copy;
}

/** Returns the headers of `writeHead` by their names in lower case. Pairs may repeat a name. */
function inLowerCase(headers: HeadHeaders): Headers | undefined {
  if (!headers) return undefined;
  const found: Headers = new Map();
  if (Array.isArray(headers)) {
    for (const [given, value] of pairsOf(headers)) {
      const name = given.toLowerCase();
      const before = found.get(name);
      found.set(name, before === undefined ? value : [before, value].flat().map(String));
    }
  } else for (const given of Object.keys(headers)) found.set(given.toLowerCase(), headers[given]);
  return found;
}
