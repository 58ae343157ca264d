import { isUtf8 } from 'node:buffer';
import type { ServerResponse } from 'node:http';
import { Logger } from '@nestjs/common';
import { pairsOf, parseWrite } from './raw-response.js';
import { headersGiven, isHttp2 } from './response-head.js';
import { install, isDouble, type Method, type Methods, type Tap } from './tapped-response.js';
import { REPLAYED_HEADERS, type WireResponse } from './wire-response.js';

const logger = new Logger('Idempotent');

/**
 * Drops what the framework sends on one raw response, and sends a recorded response when it ends.
 */
export class ReplayTap implements Tap {
  private readonly original: Methods;
  private isSent = false;

  private constructor(
    private readonly response: ServerResponse,
    private readonly replayed: WireResponse,
  ) {
    this.original = install(this, response);
  }

  static of(response: ServerResponse, replayed: WireResponse): ReplayTap {
    return new ReplayTap(response, replayed);
  }

  call(name: Method, args: unknown[]): unknown {
    if (this.isSent) return this.passOn(name, args);
    switch (name) {
      case 'end':
        return this.takeEnd(args);
      case 'write': {
        const { callback } = parseWrite('write', args);
        if (callback) process.nextTick(callback);
        return true;
      }
      case 'flushHeaders':
        return undefined;
      case 'writeHead':
        return this.mergeHead(args);
      default:
        return this.passOn(name, args);
    }
  }

  private passOn(name: Method, args: unknown[]): unknown {
    return Reflect.apply(this.original[name], this.response, args);
  }

  /**
   * Keeps the headers of this exchange, which a framework may give with the head: CORS, request
   * ids, cookies.
   */
  private mergeHead([, second, third]: unknown[]): ServerResponse {
    const { response } = this;
    const headers = headersGiven(second, third);
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

  private takeEnd(args: unknown[]): ServerResponse {
    const { response } = this;
    const { callback } = parseWrite('end', args);
    if (callback) response.once('finish', callback);
    this.isSent = true;
    try {
      this.send();
    } catch (error) {
      logger.error('A recorded response could not be sent', error);
      response.destroy();
    }
    return response;
  }

  private send(): void {
    const { response } = this;
    const { status, headers, body } = this.replayed;
    response.statusCode = status;
    if (!isHttp2(response)) response.statusMessage = '';
    for (const name of OF_THE_DROPPED_BODY) response.removeHeader(name);
    for (const [name, value] of Object.entries(headers))
      response.setHeader(name, name === 'vary' ? united(response.getHeader(name), value) : value);
    // To HEAD, the length would be that of the body which a GET gets: it is not known here.
    if (status !== 204 && response.req?.method !== 'HEAD') response.setHeader('Content-Length', body.length);
    this.passOn('end', [isDouble(response) && isUtf8(body) ? body.toString() : body]);
  }
}

/** Headers that describe the body that the framework meant to send. `Vary` is united instead. */
const OF_THE_DROPPED_BODY = [
  ...REPLAYED_HEADERS.filter((name) => name !== 'vary'),
  'content-length',
  'transfer-encoding',
];

/** Unites the names that this exchange varies by with those that the first one did. */
function united(present: number | string | string[] | undefined, kept: string | string[]): string {
  const names = [present ?? [], kept]
    .flat()
    .flatMap((value) => String(value).split(','))
    .map((name) => name.trim());
  const seen = new Map(names.map((name) => [name.toLowerCase(), name]));
  return [...seen.values()].join(', ');
}
