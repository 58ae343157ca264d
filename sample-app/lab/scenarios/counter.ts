import { viewsKey } from '../../redis/keys.js';
import { plural, type Scenario } from './scenario.js';

export const counter: Scenario = {
  labels: {
    lost: 'Lost updates',
    oversold: null,
    told: 'Views by the answers given',
    held: 'Views in Redis',
  },
  handlers: {
    naive: ['naive/naive.service.ts#countView'],
    atomic: ['products/products.service.ts#countView'],
  },
  callsPerCaller: 20,

  async begin({ id, redis, request, accepted }) {
    return {
      async call(side) {
        await request(side, { method: 'POST', path: `/products/${id(side)}/views` });
      },
      async audit(side) {
        const told = accepted(side);
        const held = Number(await redis.get(viewsKey(id(side))));
        return { told, held, lost: Math.max(0, told - held), of: told, oversold: null };
      },
    };
  },

  verdict: ({ lost, of }) => `lost ${lost} of ${plural(of, 'view')}`,
};
