import { viewsKey } from '../../redis/keys.js';
import { plural, type Scenario } from './scenario.js';

export const counter: Scenario = {
  labels: { told: 'Views by the answers given', held: 'Views in Redis' },
  wrongs: {
    lost: { label: 'Views lost', said: (count, { of }) => `lost ${count} of ${plural(of, 'view')}` },
    twice: {
      label: 'Views counted twice',
      said: (count) => `counted ${plural(count, 'view')} twice`,
    },
  },
  right: ({ of }) => `counted ${plural(of, 'view')} once`,
  handlers: {
    naive: ['naive/naive.service.ts#countView'],
    byHand: ['by-hand/by-hand.service.ts#countView'],
    atomic: ['products/products.service.ts#countView'],
  },
  means: { naive: 'GET, then SET', byHand: 'INCR', atomic: 'CounterService' },
  latency: {
    naive: 'GET and SET: two round trips.',
    byHand: 'INCR: one round trip, the least there can be.',
    atomic:
      'One round trip, by a script that also remembers the last number of each process: a call that arrives a second time gets its first answer. Calls of one process travel together, one batch at a time, so a call may wait for the batch before its own.',
  },
  page: 'counters',
  callsPerCaller: 20,

  async begin({ id, redis, request, counts }) {
    return {
      async call(side) {
        await request(side, { method: 'POST', path: `/products/${id(side)}/views` });
      },
      async audit(side) {
        const told = counts(side).accepted;
        const held = Number(await redis.get(viewsKey(id(side))));
        // A call without an answer may have counted: only what exceeds all calls was counted twice
        // for sure.
        const wrong = { lost: Math.max(0, told - held), twice: Math.max(0, held - counts(side).sent) };
        return { told, held, of: told, wrong };
      },
    };
  },
};
