import { balanceKey } from '../../redis/keys.js';
import { plural, SIDES, type Scenario } from './scenario.js';

export const withdraw: Scenario = {
  labels: {
    lost: 'Lost updates',
    oversold: 'Cents overpaid',
    told: 'Balance by the answers given',
    held: 'Balance in Redis',
  },
  handlers: {
    naive: ['naive/naive.service.ts#withdraw'],
    atomic: ['accounts/accounts.service.ts#withdraw'],
  },
  callsPerCaller: 20,

  async begin({ id, calls, redis, request, accepted }) {
    // Enough for half of the calls.
    const opening = Math.ceil(calls / 2);
    for (const side of SIDES) await redis.set(balanceKey(id(side)), opening);
    return {
      async call(side) {
        await request(side, {
          method: 'POST',
          path: `/accounts/${id(side)}/withdrawals`,
          body: { amount: 1 },
        });
      },
      async audit(side) {
        // The answers first: a withdrawal that is answered later may not be in the balance that is read now.
        const of = accepted(side);
        const held = Number(await redis.get(balanceKey(id(side))));
        const told = opening - of;
        return { told, held, lost: Math.max(0, held - told), of, oversold: Math.max(0, -told) };
      },
    };
  },

  verdict: ({ lost, of, oversold }) =>
    `lost ${lost} of ${plural(of, 'withdrawal')} and paid out ${plural(oversold!, 'cent')} too many`,
};
