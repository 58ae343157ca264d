import { balanceKey } from '../../redis/keys.js';
import { plural, SIDES, type Scenario } from './scenario.js';

export const withdraw: Scenario = {
  labels: { told: 'Balance by the answers given', held: 'Balance in Redis' },
  wrongs: {
    lost: {
      label: 'Withdrawals lost',
      said: (count, { of }) => `lost ${count} of ${plural(of, 'withdrawal')}`,
    },
    overpaid: {
      label: 'Cents overpaid',
      said: (count) => `paid out ${plural(count, 'cent')} too many`,
    },
    turnedAway: {
      label: 'Calls turned away (5xx)',
      said: (count) => `turned ${plural(count, 'call')} away`,
    },
  },
  right: ({ of }) => `booked ${of === 1 ? 'the one withdrawal' : `all ${of} withdrawals`} once`,
  handlers: {
    naive: ['naive/naive.service.ts#withdraw'],
    byHand: ['by-hand/by-hand.service.ts#withdraw'],
    atomic: ['accounts/accounts.service.ts#withdraw'],
  },
  means: { naive: 'GET, then SET', byHand: 'a lock by SET NX', atomic: '@OptimisticRetry' },
  latency: {
    naive: 'GET and SET: two round trips, and no call waits for another. That is also why updates are lost.',
    byHand:
      'SET NX, GET, SET and the release: four round trips for each call, one call at a time over all processes. The others poll, so who comes next is chance. A lock that nobody releases holds them up for its 5 s.',
    atomic:
      'Two round trips: WATCH with GET, then MULTI with EXEC. All callers share one account, so they take turns. Calls of one process queue up, and share an EXEC where they can; the two processes abort each other at times, and the loser tries again after a short random wait. The tail of the latency is that queue. Calls on different accounts do not wait for each other.',
  },
  page: 'transactions',
  callsPerCaller: 20,

  async begin({ id, calls, redis, request, counts }) {
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
        // The answers first: a withdrawal that is answered later may not be in the balance that is
        // read now.
        const { accepted: of, failed: turnedAway } = counts(side);
        const held = Number(await redis.get(balanceKey(id(side))));
        const told = opening - of;
        const wrong = { lost: Math.max(0, held - told), overpaid: Math.max(0, -told), turnedAway };
        return { told, held, of, wrong };
      },
    };
  },
};
