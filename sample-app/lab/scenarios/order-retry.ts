import { setTimeout as sleep } from 'node:timers/promises';
import { lastOrderIdKey, orderKey } from '../../redis/keys.js';
import { plural, type Scenario } from './scenario.js';

export const orderRetry: Scenario = {
  labels: {
    lost: 'Duplicate orders',
    oversold: null,
    told: 'Orders asked for',
    held: 'Orders in Redis',
  },
  handlers: {
    naive: ['naive/naive.service.ts#createOrder'],
    atomic: ['orders/orders.controller.ts#create', 'orders/orders.service.ts#create'],
  },
  callsPerCaller: 5,

  async begin({ id, redis, request, closing }) {
    const asked = { naive: new Set<string>(), atomic: new Set<string>() };
    return {
      /** A customer who clicks twice, and whose client sends the request again until there is an answer. */
      async call(side, index) {
        // An article of its own, by which the order is found again.
        const sku = `${id(side)}-${index}`;
        asked[side].add(sku);
        const send = async (): Promise<boolean> => {
          const headers = { 'Idempotency-Key': sku };
          const body = { sku, quantity: 1 };
          const { outcome } = await request(side, { method: 'POST', path: '/orders', body, headers });
          return outcome === 'accepted';
        };
        let isAnswered = (await Promise.all([send(), send()])).includes(true);
        while (!isAnswered && !closing.aborted) {
          await sleep(200);
          isAnswered = await send();
        }
      },
      async audit(side) {
        const lookUp = redis.pipeline();
        const last = Number(await redis.get(lastOrderIdKey));
        for (let order = 1; order <= last; order++) lookUp.hget(orderKey(order), 'sku');
        const skus = (await lookUp.exec())!.map(([, sku]) => sku as string | null);
        const orders = skus.filter((sku) => sku !== null && asked[side].has(sku));
        const of = asked[side].size;
        const lost = orders.length - new Set(orders).size;
        return { told: of, held: orders.length, lost, of, oversold: null };
      },
    };
  },

  verdict: ({ lost, of }) => `made ${plural(lost, 'duplicate')} of ${plural(of, 'order')}`,
};
