import { reservationsKey, stockKey } from '../../redis/keys.js';
import { plural, SIDES, type Scenario } from './scenario.js';

export const stock: Scenario = {
  labels: { told: 'Stock by the reservations in Redis', held: 'Stock in Redis' },
  wrongs: {
    lost: {
      label: 'Reservations lost',
      said: (count, { of }) => `lost ${count} of ${plural(of, 'reservation')}`,
    },
    oversold: {
      label: 'Units oversold',
      said: (count) => `sold ${plural(count, 'unit')} that ${count === 1 ? 'was' : 'were'} not there`,
    },
    gone: {
      label: 'Units gone that no call took',
      said: (count) => `took ${plural(count, 'unit')} from the stock for nobody`,
    },
  },
  right: ({ of }) => `took the stock of ${plural(of, 'reservation')} once`,
  handlers: {
    naive: ['naive/naive.service.ts#reserve'],
    byHand: ['by-hand/by-hand.service.ts#reserve'],
    atomic: ['inventory/inventory.service.ts#reserve'],
  },
  means: { naive: 'GET, then SET', byHand: 'DECRBY with a check', atomic: '@AtomicCounter' },
  latency: {
    naive: 'GET, SET and the HSET of the reservation: three round trips, and no call waits for another.',
    byHand: 'DECRBY and HSET, or DECRBY and INCRBY: two round trips.',
    atomic:
      'The counter’s script and HSET: two round trips. Calls of one process on one counter travel together, one batch at a time, so a call may wait for the batch before its own. Under load this saves more than it costs: many calls share one round trip.',
  },
  page: 'counters',
  callsPerCaller: 20,

  async begin({ id, calls, redis, request, counts }) {
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
        const { accepted, conflict } = counts(side);
        const replies = await redis
          .multi()
          .hlen(reservationsKey(id(side)))
          .get(stockKey(id(side)))
          .exec();
        const [of, held] = replies!.map(([, reply]) => Number(reply)) as [number, number];
        const told = opening - of;
        // Each of these may have taken a unit, and its caller has not heard of it: only what is
        // missing beyond them is gone.
        const unheard = counts(side).sent - accepted - conflict;
        const wrong = {
          lost: Math.max(0, held - told),
          oversold: Math.max(0, -told),
          gone: Math.max(0, told - held - unheard),
        };
        return { told, held, of, wrong };
      },
    };
  },
};
