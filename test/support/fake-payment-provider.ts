import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';

/**
 * Moment at which a request is held: nothing is charged yet, or the charge is made and not
 * answered.
 */
export type HeldAt = 'before the charge' | 'after the charge';

/**
 * A payment provider that knows idempotency keys. It lives in the test's process, so it outlives
 * the one that calls it.
 */
export interface FakePaymentProvider {
  readonly url: string;
  /** Charges in cents, one for each key. */
  readonly charges: readonly number[];
  /** Requests with a card that is not declined, repeated ones included. */
  readonly requests: number;
  /** Leaves the next request without an answer. Resolves once that request has arrived. */
  holdNext(at: HeldAt): Promise<void>;
  stop(): Promise<void>;
}

export async function startFakePaymentProvider(): Promise<FakePaymentProvider> {
  const charges = new Map<string, number>();
  let requests = 0;
  let held: { readonly at: HeldAt; arrived(): void } | undefined;

  const charge = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { card, cents } = (await json(request)) as { card: string; cents: number };
    if (card === 'declined') return void response.writeHead(402).end();
    requests++;
    const hold = held;
    held = undefined;
    const key = String(request.headers['idempotency-key']);
    if (hold?.at !== 'before the charge' && !charges.has(key)) charges.set(key, cents);
    if (hold) return hold.arrived();
    const id = `ch-${[...charges.keys()].indexOf(key) + 1}`;
    response.writeHead(201, { 'content-type': 'application/json' }).end(JSON.stringify({ id }));
  };
  const server = createServer((request, response) => {
    charge(request, response).catch((error: unknown) => response.writeHead(400).end(String(error)));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get charges() {
      return [...charges.values()];
    },
    get requests() {
      return requests;
    },
    holdNext: (at) => new Promise((arrived) => (held = { at, arrived })),
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
