import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import type { Redis } from 'ioredis';
import { providerBookKey } from '../redis/keys.js';
import { DECLINED_CARD, type Charge, type Sales } from './payment-provider.js';

/** A request that the provider has carried out. */
export interface ProviderRequest {
  /** The article that it is about. */
  sku: string;
  /** The process of the shop that sent it, as its User-Agent says. */
  process: number;
}

interface BookedCharge extends Charge {
  id: string;
}

/**
 * Stands for a payment provider of another company, with an HTTP endpoint of its own. Charges with
 * one idempotency key are one charge. Its book is in Redis, so it counts what was charged however
 * the shop's processes end.
 */
export class FakeProvider {
  /** Called between a request's effect and its answer. */
  beforeAnswer: ((request: ProviderRequest) => Promise<void>) | undefined;
  readonly #server: Server;

  private constructor(private readonly redis: Redis) {
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((error: Error) => {
        if (!response.headersSent) response.writeHead(500).end(error.message);
      });
    });
  }

  /** On loopback, on a free port. */
  static async start(redis: Redis): Promise<FakeProvider> {
    const provider = new FakeProvider(redis);
    await new Promise<void>((resolve, reject) => {
      provider.#server.once('error', reject).listen(0, '127.0.0.1', resolve);
    });
    // The shop does not wait for the provider when it closes.
    provider.#server.unref();
    return provider;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /** Without a key each call is another charge. */
  async charge(charge: Charge, idempotencyKey: string = randomUUID()): Promise<string> {
    const book = providerBookKey(charge.sku);
    const booked: BookedCharge = { ...charge, id: `ch_${randomUUID()}` };
    await this.redis.hsetnx(book, idempotencyKey, JSON.stringify(booked));
    const first = await this.redis.hget(book, idempotencyKey);
    return (JSON.parse(first!) as BookedCharge).id;
  }

  /** All charges for an article. */
  async chargesFor(sku: string): Promise<Charge[]> {
    const book = await this.redis.hvals(providerBookKey(sku));
    return book.map((charge) => JSON.parse(charge) as BookedCharge);
  }

  async salesOf(sku: string): Promise<Sales> {
    const charges = await this.chargesFor(sku);
    return { charges: charges.length, cents: charges.reduce((sum, { cents }) => sum + cents, 0) };
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(request.url!, this.url);
    const [, sku] = /^\/sales\/([\w-]+)$/.exec(pathname) ?? [];
    if (sku) {
      await this.#reply(request, response, sku, 200, await this.salesOf(sku));
    } else if (pathname === '/charges' && request.method === 'POST') {
      const charge = (await json(request)) as Charge;
      const key = request.headers['idempotency-key'] as string | undefined;
      const isDeclined = charge.card === DECLINED_CARD;
      const body = isDeclined ? { reason: 'declined' } : { id: await this.charge(charge, key) };
      await this.#reply(request, response, charge.sku, isDeclined ? 402 : 201, body);
    } else {
      response.writeHead(404).end();
    }
  }

  async #reply(
    { headers }: IncomingMessage,
    response: ServerResponse,
    sku: string,
    status: number,
    body: object,
  ): Promise<void> {
    const process = Number(headers['user-agent']?.split('/')[1]);
    await this.beforeAnswer?.({ sku, process });
    response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
  }
}
