import { createHash, randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { INestApplication } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Redis } from 'ioredis';
import { CLAIM, COMPLETE, LEASE_MS, RELEASE, RENEW, TTL_MS } from './idempotent-scripts.js';

/** A response as it goes over the wire. */
interface Response {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** The headers that a replay repeats. */
const HEADERS =
  'content-type content-language content-disposition content-encoding content-location cache-control etag last-modified link location retry-after vary'.split(
    ' ',
  );
const REPLAYED = { 'idempotency-replayed': 'true' };

function headersOf(response: {
  getHeader(name: string): number | string | string[] | undefined;
}): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const name of HEADERS) {
    const value = response.getHeader(name);
    if (value !== undefined) headers[name] = String(value);
  }
  return headers;
}

interface Claim {
  readonly record: string;
  readonly token: string;
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('base64url');
const problem = (status: number, message: string): Response => ({
  status,
  headers: { 'content-type': 'application/json; charset=utf-8' },
  body: JSON.stringify({ statusCode: status, message }),
});

interface Request {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body?: unknown;
}

/**
 * The same guarantee on the wire by hand: header checked, key and request hashed, claimed under a
 * lease that is renewed. The response is captured as it would be sent, with its headers, held until
 * it is kept, and replayed as it was; a fault of the server gives the key back.
 *
 * It stands before Nest, so guards and pipes come after the claim. It gives no limit of time to
 * Redis, takes an answer for the end of the handler, and knows a caller by one header.
 */
export class HandWritten {
  private readonly claims = new Set<Claim>();

  private constructor(
    private readonly client: Redis,
    private readonly scripts: Readonly<Record<'claim' | 'complete' | 'release' | 'renew', string>>,
  ) {
    setInterval(() => {
      for (const { record, token } of this.claims)
        client.evalsha(scripts.renew, 1, record, token, LEASE_MS).catch(() => undefined);
    }, LEASE_MS / 3).unref();
  }

  static async on(client: Redis): Promise<HandWritten> {
    const load = async (script: string): Promise<string> => (await client.script('LOAD', script)) as string;
    const [claim, complete, release, renew] = await Promise.all([
      load(CLAIM),
      load(COMPLETE),
      load(RELEASE),
      load(RENEW),
    ]);
    return new HandWritten(client, { claim, complete, release, renew });
  }

  addTo(app: INestApplication, platform: string): void {
    if (platform === 'fastify') this.addToFastify(app as NestFastifyApplication);
    // Behind the parser of bodies.
    else (app as NestExpressApplication).useBodyParser('json').use(this.onExpress);
  }

  private addToFastify(app: NestFastifyApplication): void {
    const claims = new WeakMap<object, Claim>();
    const fastify = app.getHttpAdapter().getInstance();
    fastify.addHook('preHandler', async (request, reply) => {
      const claimed = await this.claim(request);
      if ('record' in claimed) claims.set(request, claimed);
      else await reply.status(claimed.status).headers(claimed.headers).send(claimed.body);
    });
    fastify.addHook('onSend', async (request, reply, payload) => {
      const claim = claims.get(request);
      if (claim)
        await this.complete(claim, {
          status: reply.statusCode,
          headers: headersOf(reply),
          body: payload as string,
        });
      return payload;
    });
  }

  private readonly onExpress = async (
    request: IncomingMessage & Request,
    response: ServerResponse,
    next: (error?: unknown) => void,
  ): Promise<void> => {
    try {
      const claimed = await this.claim(request);
      if (!('record' in claimed)) {
        response.writeHead(claimed.status, claimed.headers).end(claimed.body);
        return;
      }
      const chunks: Buffer[] = [];
      const end = response.end.bind(response) as (body: Buffer) => void;
      response.write = (chunk: string | Buffer): boolean => {
        chunks.push(Buffer.from(chunk as string));
        return true;
      };
      response.end = ((chunk?: string | Buffer): ServerResponse => {
        if (chunk !== undefined) chunks.push(Buffer.from(chunk as string));
        const body = Buffer.concat(chunks);
        const headers = headersOf(response);
        this.complete(claimed, { status: response.statusCode, headers, body: body.toString() }).then(
          () => end(body),
          () => response.destroy(),
        );
        return response;
      }) as ServerResponse['end'];
      next();
    } catch (error) {
      next(error);
    }
  };

  private async claim({ method, url, headers, body }: Request): Promise<Claim | Response> {
    const key = headers['idempotency-key'];
    if (typeof key !== 'string' || !/^[\x21-\x7e]{1,255}$/.test(key))
      return problem(400, 'Idempotency-Key is missing');
    const record = `hand:${sha256(`${headers.authorization ?? 'anonymous'}\0orders.create\0${key}`)}`;
    const token = randomBytes(16).toString('base64url');
    const fingerprint = sha256(JSON.stringify([method, url, body]));
    try {
      const answer = (await this.client.evalsha(
        this.scripts.claim,
        1,
        record,
        token,
        fingerprint,
        LEASE_MS,
      )) as string;
      if (answer !== 'claimed') {
        const kept = JSON.parse(answer) as Response;
        return { ...kept, headers: { ...kept.headers, ...REPLAYED } };
      }
      const claim = { record, token };
      this.claims.add(claim);
      return claim;
    } catch (error) {
      const { message } = error as Error;
      if (message.includes('MISMATCH')) return problem(422, message);
      return problem(message.includes('RUNNING') ? 409 : 503, message);
    }
  }

  private async complete(claim: Claim, response: Response): Promise<void> {
    const { record, token } = claim;
    const { client, scripts } = this;
    // From here on the lease has to last.
    this.claims.delete(claim);
    if (response.status >= 500) await client.evalsha(scripts.release, 1, record, token);
    else await client.evalsha(scripts.complete, 1, record, token, JSON.stringify(response), TTL_MS);
  }
}
