import { lastOrderIdKey, orderKey } from '../../redis/keys.js';
import { confirmationOf, isGivenUp, type Confirmation } from './patience.js';
import { plural, type Scenario } from './scenario.js';

export const orderRetry: Scenario = {
  labels: { told: 'Orders asked for', held: 'Orders in Redis' },
  wrongs: {
    duplicates: {
      label: 'Duplicate orders',
      said: (count, { of }) => `made ${plural(count, 'duplicate')} of ${plural(of, 'order')}`,
    },
    refused: {
      label: 'Orders never confirmed',
      said: (count, { of }) => `never confirmed ${count} of ${plural(of, 'order')}`,
    },
  },
  right: ({ of }) => `made ${plural(of, 'order')} once`,
  handlers: {
    naive: ['naive/naive.service.ts#createOrder'],
    byHand: ['by-hand/by-hand.service.ts#createOrder'],
    atomic: ['orders/orders.controller.ts#create', 'orders/orders.service.ts#create'],
  },
  means: {
    naive: 'GET, then SET',
    byHand: 'SET NX',
    atomic: '@Idempotent, with the order and its mail in the same EXEC',
  },
  latency: {
    naive: 'GET, the order, SET. Both requests of a pair do all of the work.',
    byHand:
      'SET NX, the order, SET. The second request of a pair gets 409 at once and asks again after 200 ms.',
    atomic:
      'The claim, the order’s number, and one EXEC that keeps the order with its mail and marks its key as used; then the response is kept, so that a repeat gets the same bytes. That is more round trips than by hand. The second request of a pair gets 409 with Retry-After and asks again after 200 ms.',
  },
  page: 'idempotency',
  callsPerCaller: 5,

  async begin({ id, redis, request, closing }) {
    const asked = { naive: new Set<string>(), byHand: new Set<string>(), atomic: new Set<string>() };
    const refused = { naive: 0, byHand: 0, atomic: 0 };
    return {
      /**
       * A customer who clicks twice, and whose client sends the request again until there is an
       * answer, or no patience left.
       */
      async call(side, index) {
        // An article of its own, by which the order is found again.
        const sku = `${id(side)}-${index}`;
        asked[side].add(sku);
        const send = async (): Promise<Confirmation> => {
          const headers = { 'Idempotency-Key': sku };
          const body = { sku, quantity: 1 };
          return confirmationOf(await request(side, { method: 'POST', path: '/orders', body, headers }));
        };
        const answers = await Promise.all([send(), send()]);
        const first = answers.includes('confirmed') ? 'confirmed' : answers[0];
        if (await isGivenUp(first, send, closing)) refused[side] += 1;
      },
      async audit(side) {
        const lookUp = redis.pipeline();
        const last = Number(await redis.get(lastOrderIdKey));
        for (let order = 1; order <= last; order++) lookUp.hget(orderKey(order), 'sku');
        const skus = (await lookUp.exec())!.map(([, sku]) => sku as string | null);
        const orders = skus.filter((sku) => sku !== null && asked[side].has(sku));
        const of = asked[side].size;
        const duplicates = orders.length - new Set(orders).size;
        return { told: of, held: orders.length, of, wrong: { duplicates, refused: refused[side] } };
      },
    };
  },
};
