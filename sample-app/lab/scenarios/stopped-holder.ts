import { salesStatementsKey } from '../../redis/keys.js';
import type { SalesStatement } from '../../sales/sales.dto.js';
import { STOPPED_WORKER } from '../faults.js';
import { Middle } from './middle.js';
import { plural, SIDES, type LabRequest, type Scenario, type Side } from './scenario.js';

/** The statement whose process is stopped. */
const STOPPED = 1;

/** One process is stopped while it holds a lock, until another has taken the lock and written. */
export const stoppedHolder: Scenario = {
  fault: STOPPED_WORKER,
  labels: { told: 'Newest statement answered', held: 'Latest statement in Redis' },
  wrongs: {
    stale: {
      label: 'Older over newer',
      said: (count) =>
        `published ${plural(count, 'older statement')} over ${count === 1 ? 'a newer one' : 'newer ones'}`,
    },
  },
  right: ({ of }) => `published ${plural(of, 'statement')} in order`,
  handlers: {
    naive: ['naive/naive.service.ts#publishSales'],
    byHand: ['by-hand/by-hand.service.ts#publishSales'],
    atomic: ['sales/sales.service.ts#publish'],
  },
  means: {
    naive: 'a lock by SET NX and DEL',
    byHand: 'a lock with an owner, renewed',
    atomic: '@WithPermit, asked for by EXEC',
  },
  latency: {
    naive: 'SET NX, RPUSH, DEL: three round trips beside the provider’s. The others poll.',
    byHand: 'SET NX, RPUSH, the release: three round trips beside the provider’s. The others poll.',
    atomic:
      'The permit, WATCH, EXEC, the release: four round trips beside the provider’s. Those that wait stand in line, and are handed the permit. The process that was stopped gets 503: its permit was lost, so its statement is refused.',
  },
  page: 'permits',
  callsPerCaller: 2,

  async begin({ id, redis, request, closing, provider, victim }) {
    const middle = new Middle(SIDES.map(id), provider, victim.pid);
    closing.addEventListener('abort', () => middle.release(), { once: true });
    const newest = { naive: 0, byHand: 0, atomic: 0 };

    /** There is one charge more each time, so a later statement has more of them. */
    async function publish(side: Side, to: NonNullable<LabRequest['to']>): Promise<void> {
      const sku = id(side);
      await provider.charge({ sku, cart: 'any', card: 'tok_visa', cents: 1 });
      const path = `/sales/${sku}/statements`;
      const { outcome, body } = await request(side, { method: 'POST', path, to });
      if (outcome === 'accepted') newest[side] = Math.max(newest[side], body!['charges'] as number);
    }

    return {
      /**
       * All but one are made by the process that is not stopped, so that its lock is all that is in
       * the way.
       */
      async call(side, index) {
        if (index !== STOPPED) await publish(side, 'last process');
        else await middle.hold(id(side), () => publish(side, 'first process'));
      },
      async inTheMiddle() {
        return middle.isReached;
      },
      /**
       * The stopped process finds the provider's answer when it wakes, and another's statement in
       * Redis.
       */
      async struck() {
        middle.release();
        await Promise.all(SIDES.map((side) => publish(side, 'last process')));
      },
      async audit(side) {
        const statements = await redis.lrange(salesStatementsKey(id(side)), 0, -1);
        const charges = statements.map((statement) => (JSON.parse(statement) as SalesStatement).charges);
        let highest = 0;
        const stale = charges.filter((count) => count < (highest = Math.max(highest, count))).length;
        const told = newest[side];
        return { told, held: charges.at(-1) ?? 0, of: charges.length, wrong: { stale } };
      },
    };
  },
};
