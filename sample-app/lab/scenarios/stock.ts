import { reservationsKey, stockKey } from '../../redis/keys.js';
import { plural, SIDES, type Scenario } from './scenario.js';

export const stock: Scenario = {
  labels: {
    lost: 'Lost updates',
    oversold: 'Oversold units',
    told: 'Stock by the reservations in Redis',
    held: 'Stock in Redis',
  },
  handlers: {
    naive: ['naive/naive.service.ts#reserve'],
    atomic: ['inventory/inventory.service.ts#reserve'],
  },
  callsPerCaller: 20,

  async begin({ id, calls, redis, request }) {
    // Enough for half of the calls.
    const opening = Math.ceil(calls / 2);
    for (const side of SIDES) await redis.set(stockKey(id(side)), opening);
    return {
      async call(side) {
        await request(side, {
          method: 'POST',
          path: `/inventory/${id(side)}/reservations`,
          body: { quantity: 1 },
        });
      },
      async audit(side) {
        // Reservations first: each was taken from the stock before it was written down.
        const of = await redis.hlen(reservationsKey(id(side)));
        const held = Number(await redis.get(stockKey(id(side))));
        const told = opening - of;
        return { told, held, lost: Math.max(0, held - told), of, oversold: Math.max(0, -told) };
      },
    };
  },

  verdict: ({ lost, of, oversold }) =>
    `lost ${lost} of ${plural(of, 'reservation')} and sold ${plural(oversold!, 'unit')} that were not there`,
};
